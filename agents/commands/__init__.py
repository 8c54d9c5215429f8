"""What the commands of `orchestrator` do, one module each; `agents.cli` is their grammar."""
