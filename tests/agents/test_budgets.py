"""`orchestrator budgets lift`: what it refuses before it asks anybody."""

from pathlib import Path

import pytest

from agents.cli import main


@pytest.mark.parametrize("tenant", ["free", "nobody"])
def test_a_tenant_without_a_budget_cannot_be_stopped_and_so_not_lifted(
    tenant: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "orchestrator.yaml"
    file.write_text(
        'unknown_tenants: refuse\ntenants: [{name: free}, {name: acme, budgets: [{usd: "1", window: day}]}]'
    )

    code = main(["budgets", "lift", tenant, "-c", str(file)])

    assert (code, capfd.readouterr().err.splitlines()) == (
        2,
        [f"{tenant}: has no budget here, so no overrun can stop it"],
    )
