"""What becomes of each chat parameter in the dialects that are not OpenAI's.

`translated`: said in the dialect's own words; some values may have none, then the dialect refuses them by name.
`dropped`: the answer is as good without it, so it is left out and told (`dropped_parameters`).
`refused`: the answer would not be what was asked for, so nothing is sent; another deployment may serve the request.

Sources, read 2026-11-24: Anthropic's "Create a Message" (types of its Python SDK 2.13.0), Google's "generateContent"
and `GenerationConfig` (types of google-genai 3.6.1).
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from agents.providers.dialect import CannotSayError

Fate = Literal["translated", "dropped", "refused"]

FATES: Final[Mapping[str, Mapping[str, Fate]]] = {
    "temperature": {"anthropic": "translated", "google": "translated"},
    "top_p": {"anthropic": "translated", "google": "translated"},
    "stop": {"anthropic": "translated", "google": "translated"},
    "seed": {"anthropic": "dropped", "google": "translated"},  # best effort at OpenAI too
    "presence_penalty": {"anthropic": "dropped", "google": "translated"},
    "frequency_penalty": {"anthropic": "dropped", "google": "translated"},
    "logprobs": {"anthropic": "refused", "google": "translated"},
    "top_logprobs": {"anthropic": "refused", "google": "translated"},
    "logit_bias": {"anthropic": "refused", "google": "refused"},
    "response_format": {"anthropic": "translated", "google": "translated"},
    "tools": {"anthropic": "translated", "google": "translated"},
    "tool_choice": {"anthropic": "translated", "google": "translated"},
    "parallel_tool_calls": {"anthropic": "translated", "google": "refused"},
    "reasoning_effort": {"anthropic": "translated", "google": "translated"},
    "service_tier": {"anthropic": "dropped", "google": "dropped"},  # another tier is another price than the hold's
    "user": {"anthropic": "translated", "google": "dropped"},
}

_SAYS_NOTHING: Final[Mapping[str, tuple[Any, ...]]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "tools": ([],),
}
"""Values that ask for what is done anyway: never refused, never told."""


def sorted_out(dialect: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the parameters to translate, and the names of those to drop.

    Raises `CannotSayError` for the first that is refused. One that the table does not know is refused: it may matter.
    """
    translated: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in parameters.items():
        if value in _SAYS_NOTHING.get(name, ()):
            continue
        match FATES.get(name, {}).get(dialect, "refused"):
            case "translated":
                translated[name] = value
            case "dropped":
                dropped.append(name)
            case "refused":
                raise CannotSayError(name, "has no equivalent in this provider's API")
    return translated, tuple(dropped)
