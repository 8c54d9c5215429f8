"""The `models` section: one entry per deployment, several may serve one model name."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, StrictBool, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from schemas.configuration.endpoints import Endpoint, provider_of, usual_key_variable
from schemas.configuration.kafka import VARIABLE_NAME
from schemas.configuration.kinds import IDENTIFIER, SECONDS, Integer, Number, Text, Usd
from schemas.configuration.section import Section

FREE = "free"
_MOST_USD_PER_TOKEN = 1  # nobody asks more: a price per million tokens has slipped into the wrong key
_PER_MILLION = Usd(_MOST_USD_PER_TOKEN * 1_000_000, 12, " per million tokens")


class RateCard(Section):
    """Rates of a deployment, or of its calls above some input."""

    input_usd_per_million: Annotated[Decimal, _PER_MILLION] = Field(description="US dollars per million input tokens.")
    output_usd_per_million: Annotated[Decimal, _PER_MILLION] = Field(
        description="US dollars per million output tokens."
    )
    cache_read_usd_per_million: Annotated[Decimal, _PER_MILLION] | None = Field(
        default=None, description="US dollars per million input tokens read from the provider's cache. Default: none."
    )
    cache_write_usd_per_million: Annotated[Decimal, _PER_MILLION] | None = Field(
        default=None, description="US dollars per million input tokens written to the provider's cache. Default: none."
    )
    cache_write_1h_usd_per_million: Annotated[Decimal, _PER_MILLION] | None = Field(
        default=None,
        description="US dollars per million input tokens written to its one-hour cache; the dearer of the two counts"
        " for every write. Default: none.",
    )
    reasoning_usd_per_million: Annotated[Decimal, _PER_MILLION] | None = Field(
        default=None, description="US dollars per million reasoning tokens, where priced apart. Default: none."
    )
    per_request_usd: Annotated[Decimal, Usd(1000, 12, " per request")] = Field(
        default=Decimal(0), description="US dollars per request, beside its tokens."
    )


class Tier(RateCard):
    """Rates of calls with a long input, for all of their tokens."""

    above_input_tokens: Annotated[int, Integer(1)] = Field(
        description="A call with more input tokens than these has this tier's rates, for all of its tokens."
    )


class Price(RateCard):
    """Rates of a deployment. The string `free` means that nothing costs anything."""

    tiers: tuple[Tier, ...] | None = Field(
        default=None, description="Rates of calls with a long input, ascending. Default: none, one price for all."
    )

    @model_validator(mode="after")
    def _tiers_ascend(self) -> Self:
        starts = [tier.above_input_tokens for tier in self.tiers or ()]
        if starts != sorted(set(starts)):
            raise ValueError("must have `tiers` with ascending `above_input_tokens`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _free_is_zero(cls, given: Any) -> Any:
        if given == FREE:
            return {"input_usd_per_million": 0, "output_usd_per_million": 0}
        if not isinstance(given, dict | Price):
            raise ValueError("must be a mapping of rates, or `free`")
        return given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": FREE}, handler.resolve_ref_schema(handler(core))]}


class Deployment(Section):
    """Endpoint, provider's model and price. Without `cost_per_token` and `price`, the public price list counts."""

    name: Annotated[str, Text(IDENTIFIER.shape, f"{IDENTIFIER.says}; `auto` is reserved", refused=("auto",))] = Field(
        description="Model name that requests ask for; several entries may share it."
    )
    endpoint: Annotated[str, Endpoint()] = Field(
        description="Base URL of the provider's API, http or https, without user, query or fragment."
    )
    id: Annotated[str, IDENTIFIER] = Field(
        default_factory=lambda given: given["name"],
        description="Deployment id, unique. Default: `name`, so it is needed where names repeat.",
    )
    capabilities: tuple[Annotated[str, IDENTIFIER], ...] = Field(
        default=(), description="What the model can do, as requests name it in `needs.capabilities`."
    )
    max_tokens: Annotated[int, Integer(1)] | None = Field(
        default=None, description="Context window in tokens, input and output together. Default: none, unknown."
    )
    cost_per_token: Annotated[Decimal, Usd(_MOST_USD_PER_TOKEN, 18, " per token")] | None = Field(
        default=None, description="US dollars per token, input and output alike; this or `price`. Default: none."
    )
    price: Price | None = Field(
        default=None,
        description="Rates in US dollars, or `free`; this or `cost_per_token`. Default: the public price list.",
    )
    provider: Annotated[
        str, Text(r"[a-z0-9][a-z0-9_.-]{0,63}", "a provider in lower case, such as openai, anthropic or google")
    ] = Field(
        default_factory=lambda given: provider_of(given["endpoint"]),
        description="Whose API the endpoint speaks. Default: from the endpoint's host, else `openai`.",
    )
    provider_model: Annotated[str, Text(r"[!-~]{1,256}", "printable ASCII without spaces, 1 to 256 characters")] = (
        Field(
            default_factory=lambda given: given["name"], description="The provider's own model name. Default: `name`."
        )
    )
    api_key_env: Annotated[str, VARIABLE_NAME] | None = Field(
        default_factory=lambda given: usual_key_variable(given["endpoint"]),
        description="Environment variable that holds the key. Default: the usual one on a provider's own host over"
        " https (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `GEMINI_API_KEY`), else none.",
    )
    max_output_tokens: Annotated[int, Integer(1)] | None = Field(
        default=None, description="Output tokens that the deployment gives at most. Default: none, no such limit."
    )
    template_tokens: Annotated[int, Integer(0)] = Field(
        default=64, description="Input tokens that the provider's own chat template adds."
    )
    tokenizer: Literal["cl100k_base", "o200k_base"] | None = Field(
        default=None,
        description="Tokenizer of the model, which bounds its input closer than bytes do; needs the extra `tokens`."
        " Default: the model's own on api.openai.com, else none.",
    )
    image_tokens: Annotated[int, Integer(1)] | None = Field(
        default=None, description="Tokens that an image is billed as at most. Default: none, images are refused."
    )
    max_concurrency: Annotated[int, Integer(1)] | None = Field(
        default=None, description="Calls at a time over all workers. Default: none, no limit."
    )
    weight: Annotated[float, Number(1_000_000)] = Field(
        default=1.0, description="Share of the calls, relative to others, for the `weighted` strategy."
    )
    priority: Annotated[int, Integer(-1_000_000, 1_000_000)] = Field(
        default=0, description="Rank for the `priority` strategy; lower goes first."
    )
    quota: Annotated[str, IDENTIFIER] | None = Field(
        default=None, description="Name of a provider's limit that deployments share. Default: none, its own."
    )
    timeout: Annotated[float, SECONDS] | None = Field(
        default=None, description="Seconds that one call may take. Default: none, what is left of the request's time."
    )
    paid_health_checks: StrictBool = Field(
        default=False, description="Whether health checks may make real calls, which cost money."
    )
