"""Exact token counts of OpenAI's models, where the extra `tokens` is installed: else bytes bound the input.

Only OpenAI itself is known to use these tokenizers: a compatible server may call anything `gpt-4`, so an endpoint
elsewhere has to be told its `tokenizer` in the configuration.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Final

import structlog

from schemas.configuration import Deployment
from schemas.configuration.endpoints import host_of

OPENAI_HOST: Final = "api.openai.com"
_REGIONAL: Final = f".{OPENAI_HOST}"

FAMILIES: Final = (
    *((family, "o200k_base") for family in ("gpt-5", "gpt-4.5", "gpt-4.1", "gpt-4o", "chatgpt-4o", "o1", "o3", "o4")),
    *((family, "cl100k_base") for family in ("gpt-4", "gpt-3.5")),
)
"""Model families and their encodings, as in tiktoken's `model.py`. A family is its own name and that before a `-`; the
first one counts."""

log = structlog.get_logger()


def encoding_of(model: str) -> str | None:
    """Return the encoding of one of OpenAI's models, fine-tuned ones (`ft:gpt-4o:…`) too; None: not known."""
    base = model.removeprefix("ft:").split(":")[0]
    return next((encoding for family, encoding in FAMILIES if base == family or base.startswith(f"{family}-")), None)


def counter_of(deployment: Deployment) -> Callable[[str], int] | None:
    """Return what counts the tokens of a deployment's texts, None where its tokenizer is not known or not installed."""
    told = deployment.tokenizer
    host = host_of(deployment.endpoint)
    encoding = encoding_of(deployment.provider_model) if host == OPENAI_HOST or host.endswith(_REGIONAL) else None
    counter = _counter(told or encoding) if told or encoding else None
    if told and counter is None:
        log.warning("tokenizer is not installed, bytes are counted", deployment=deployment.id, extra="tokens")
    return counter


@lru_cache
def _counter(encoding: str) -> Callable[[str], int] | None:
    """Load an encoding once; the same encoding is the same function, so that a prompt is counted once for it."""
    if find_spec("bpe_openai") is None:
        return None
    import bpe_openai  # noqa: PLC0415 - an optional extra, and megabytes of vocabulary

    tokenizer = bpe_openai.get_encoding(encoding)

    def count(text: str) -> int:
        try:
            return len(tokenizer.encode_ordinary(text))
        except ValueError:  # longer than the library takes: no text has more tokens than bytes
            return len(text.encode())

    return count
