"""What providers say they counted, and what it costs: the amounts are worked out by hand.

`documented`: a block of the vendor's own documentation. `recorded`: said by a real server. `shape`: the documented
shape with numbers of our own. Prices are those of the time, in USD per million tokens; 1 USD per million is 1,000
nano-USD a token. Where the usage is no usage, the bound of 100 tokens in and 50 out is booked, `estimated`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from schemas.usage import Usage
from streams.core.costs import charge_incurred
from streams.core.prices import Rates
from streams.core.usage import usage_of_anthropic, usage_of_gemini, usage_of_openai

GPT = Rates(Decimal("2.5"), Decimal(10), "v1", cache_read=Decimal("1.25"))
CLAUDE = Rates(Decimal(3), Decimal(15), "v1", cache_read=Decimal("0.3"), cache_write=Decimal("3.75"))
DEEPSEEK = Rates(Decimal("0.27"), Decimal("1.10"), "v1", cache_read=Decimal("0.07"))
GEMINI = Rates(
    Decimal("1.25"),
    Decimal(10),
    "v1",
    cache_read=Decimal("0.31"),
    steps=((200_000, Rates(Decimal("2.5"), Decimal(15), "v1", cache_read=Decimal("0.625"))),),
)
THINKER = Rates(Decimal(2), Decimal(8), "v1", reasoning=Decimal(3))
LOCAL = Rates.flat(Decimal("0.000001"), "v1")

Line = tuple[str, int, int]
"""Class, tokens, nano-USD."""


@dataclass(frozen=True, slots=True)
class Golden:
    """A usage block. `counts`: input, cache read, cache write, output, reasoning; None: no usage."""

    reader: Callable[[object], Usage | None]
    rates: Rates
    told: Any
    counts: tuple[int, int, int, int, int] | None
    lines: tuple[Line, ...]
    amount: int


def openai(told: Any, rates: Rates, counts: tuple[int, int, int, int, int] | None, *lines: Line, amount: int) -> Golden:
    return Golden(usage_of_openai, rates, told, counts, lines, amount)


def anthropic(
    told: Any, counts: tuple[int, int, int, int, int] | None, *lines: Line, amount: int, rates: Rates = CLAUDE
) -> Golden:
    return Golden(usage_of_anthropic, rates, told, counts, lines, amount)


def gemini(told: Any, counts: tuple[int, int, int, int, int] | None, *lines: Line, amount: int) -> Golden:
    return Golden(usage_of_gemini, GEMINI, told, counts, lines, amount)


BOUND_GPT = (("input", 100, 250_000), ("output", 50, 500_000))
BOUND_CLAUDE = (("input", 100, 375_000), ("output", 50, 750_000))  # as if all of it were written to the cache
BOUND_DEEPSEEK = (("input", 100, 27_000), ("output", 50, 55_000))
BOUND_GEMINI = (("input", 100, 125_000), ("output", 50, 500_000))
BOUND_LOCAL = (("input", 100, 100_000), ("output", 50, 50_000))

NO_PREDICTION = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}

OPENAI = {
    "OpenAI, documented: the default example": openai(
        {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, **NO_PREDICTION},
        },
        GPT,
        (19, 0, 0, 10, 0),
        ("input", 19, 47_500),
        ("output", 10, 100_000),
        amount=147_500,
    ),
    "OpenAI, documented: functions": openai(
        {
            "prompt_tokens": 82,
            "completion_tokens": 17,
            "total_tokens": 99,
            "completion_tokens_details": {"reasoning_tokens": 0, **NO_PREDICTION},
        },
        GPT,
        (82, 0, 0, 17, 0),
        ("input", 82, 205_000),
        ("output", 17, 170_000),
        amount=375_000,
    ),
    "OpenAI, documented: logprobs": openai(
        {
            "prompt_tokens": 9,
            "completion_tokens": 9,
            "total_tokens": 18,
            "completion_tokens_details": {"reasoning_tokens": 0, **NO_PREDICTION},
        },
        GPT,
        (9, 0, 0, 9, 0),
        ("input", 9, 22_500),
        ("output", 9, 90_000),
        amount=112_500,
    ),
    "OpenAI, documented: an image": openai(
        {
            "prompt_tokens": 1117,
            "completion_tokens": 46,
            "total_tokens": 1163,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, **NO_PREDICTION},
        },
        GPT,
        (1117, 0, 0, 46, 0),
        ("input", 1117, 2_792_500),
        ("output", 46, 460_000),
        amount=3_252_500,
    ),
    "OpenAI, documented: prompt caching": openai(
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 0, **NO_PREDICTION},
        },
        GPT,
        (2006, 1920, 0, 300, 0),
        ("input", 86, 215_000),
        ("cache_read", 1920, 2_400_000),
        ("output", 300, 3_000_000),
        amount=5_615_000,
    ),
    "OpenAI, shape: rejected predictions are part of the output": openai(
        {
            "prompt_tokens": 120,
            "completion_tokens": 80,
            "total_tokens": 200,
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 18,
                "rejected_prediction_tokens": 10,
            },
        },
        GPT,
        (120, 0, 0, 80, 0),
        ("input", 120, 300_000),
        ("output", 80, 800_000),
        amount=1_100_000,
    ),
    "OpenAI, shape: tokens written to the cache": openai(
        {
            "prompt_tokens": 1500,
            "completion_tokens": 20,
            "total_tokens": 1520,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 1408, "text_tokens": 1500},
        },
        GPT,
        (1500, 0, 1408, 20, 0),
        ("input", 92, 230_000),
        ("cache_write", 1408, 3_520_000),  # no price of their own: the input's
        ("output", 20, 200_000),
        amount=3_950_000,
    ),
    "OpenAI, shape: reasoning with a price of its own": openai(
        {
            "prompt_tokens": 75,
            "completion_tokens": 1186,
            "total_tokens": 1261,
            "completion_tokens_details": {"reasoning_tokens": 1024},
        },
        THINKER,
        (75, 0, 0, 1186, 1024),
        ("input", 75, 150_000),
        ("output", 162, 1_296_000),
        ("reasoning", 1024, 3_072_000),
        amount=4_518_000,
    ),
    "Azure, shape: no details": openai(
        {"completion_tokens": 86, "prompt_tokens": 37, "total_tokens": 123},
        GPT,
        (37, 0, 0, 86, 0),
        ("input", 37, 92_500),
        ("output", 86, 860_000),
        amount=952_500,
    ),
    "Azure, shape: a reasoning model": openai(
        {
            "completion_tokens": 557,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 512,
                "rejected_prediction_tokens": 0,
            },
            "prompt_tokens": 14,
            "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
            "total_tokens": 571,
        },
        GPT,
        (14, 0, 0, 557, 512),
        ("input", 14, 35_000),
        ("output", 557, 5_570_000),
        amount=5_605_000,
    ),
    "Azure, shape: details are null": openai(
        {
            "completion_tokens": 12,
            "completion_tokens_details": None,
            "prompt_tokens": 30,
            "prompt_tokens_details": None,
            "total_tokens": 42,
        },
        GPT,
        (30, 0, 0, 12, 0),
        ("input", 30, 75_000),
        ("output", 12, 120_000),
        amount=195_000,
    ),
    "Azure, shape: a filtered prompt tells no usage": openai(None, GPT, None, *BOUND_GPT, amount=750_000),
}

COMPATIBLE = {
    "vLLM, shape: details are null": openai(
        {"prompt_tokens": 38, "total_tokens": 48, "completion_tokens": 10, "prompt_tokens_details": None},
        LOCAL,
        (38, 0, 0, 10, 0),
        ("input", 38, 38_000),
        ("output", 10, 10_000),
        amount=48_000,
    ),
    "vLLM, shape: with --enable-prompt-tokens-details": openai(
        {
            "prompt_tokens": 1044,
            "total_tokens": 1108,
            "completion_tokens": 64,
            "prompt_tokens_details": {"cached_tokens": 1040},
        },
        LOCAL,
        (1044, 1040, 0, 64, 0),
        ("input", 1044, 1_044_000),  # one rate: never divided
        ("output", 64, 64_000),
        amount=1_108_000,
    ),
    "vLLM, shape: before there were details": openai(
        {"prompt_tokens": 7, "total_tokens": 23, "completion_tokens": 16},
        LOCAL,
        (7, 0, 0, 16, 0),
        ("input", 7, 7_000),
        ("output", 16, 16_000),
        amount=23_000,
    ),
    "vLLM, shape: nothing completed": openai(
        {"prompt_tokens": 7, "total_tokens": 7, "completion_tokens": None}, LOCAL, None, *BOUND_LOCAL, amount=150_000
    ),
    "vLLM's messages, shape: the cache is null": anthropic(
        {
            "input_tokens": 38,
            "output_tokens": 10,
            "cache_creation_input_tokens": None,
            "cache_read_input_tokens": None,
        },
        (38, 0, 0, 10, 0),
        ("input", 38, 38_000),
        ("output", 10, 10_000),
        amount=48_000,
        rates=LOCAL,
    ),
    "llama.cpp, recorded": openai(
        {
            "completion_tokens": 12,
            "prompt_tokens": 34,
            "total_tokens": 46,
            "prompt_tokens_details": {"cached_tokens": 33},
        },
        LOCAL,
        (34, 33, 0, 12, 0),
        ("input", 34, 34_000),
        ("output", 12, 12_000),
        amount=46_000,
    ),
    "llama.cpp, shape: before it told of its cache": openai(
        {"completion_tokens": 12, "prompt_tokens": 34, "total_tokens": 46},
        LOCAL,
        (34, 0, 0, 12, 0),
        ("input", 34, 34_000),
        ("output", 12, 12_000),
        amount=46_000,
    ),
    "llama.cpp's messages, recorded: a new prompt": anthropic(
        {"cache_read_input_tokens": 0, "input_tokens": 34, "output_tokens": 12},
        (34, 0, 0, 12, 0),
        ("input", 34, 34_000),
        ("output", 12, 12_000),
        amount=46_000,
        rates=LOCAL,
    ),
    "llama.cpp's messages, recorded: the same again": anthropic(
        {"cache_read_input_tokens": 33, "input_tokens": 1, "output_tokens": 12},
        (34, 33, 0, 12, 0),
        ("input", 34, 34_000),
        ("output", 12, 12_000),
        amount=46_000,
        rates=LOCAL,
    ),
    "llama.cpp's messages, recorded: at Claude's prices": anthropic(
        {"cache_read_input_tokens": 24, "input_tokens": 20, "output_tokens": 12},
        (44, 24, 0, 12, 0),
        ("input", 20, 60_000),
        ("cache_read", 24, 7_200),
        ("output", 12, 180_000),
        amount=247_200,
    ),
    "Ollama, shape": openai(
        {"prompt_tokens": 26, "completion_tokens": 298, "total_tokens": 324},
        LOCAL,
        (26, 0, 0, 298, 0),
        ("input", 26, 26_000),
        ("output", 298, 298_000),
        amount=324_000,
    ),
    "Ollama, shape: a cached prompt counts as 0": openai(
        {"prompt_tokens": 0, "completion_tokens": 298, "total_tokens": 298}, LOCAL, None, *BOUND_LOCAL, amount=150_000
    ),
    "Ollama's messages, shape": anthropic(
        {"input_tokens": 26, "output_tokens": 298},
        (26, 0, 0, 298, 0),
        ("input", 26, 26_000),
        ("output", 298, 298_000),
        amount=324_000,
        rates=LOCAL,
    ),
    "OpenRouter, documented: its own cost is not ours": openai(
        {
            "completion_tokens": 2,
            "completion_tokens_details": {"reasoning_tokens": 0},
            "cost": 0.95,
            "cost_details": {"upstream_inference_cost": 19},
            "prompt_tokens": 194,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
            "total_tokens": 196,
        },
        CLAUDE,
        (194, 0, 100, 2, 0),
        ("input", 94, 282_000),
        ("cache_write", 100, 375_000),
        ("output", 2, 30_000),
        amount=687_000,
    ),
    "OpenRouter, shape: reasoning and cache": openai(
        {
            "prompt_tokens": 1200,
            "completion_tokens": 400,
            "total_tokens": 1600,
            "cost": 0.0042,
            "is_byok": False,
            "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0, "video_tokens": 0},
            "cost_details": {"upstream_inference_cost": None},
            "completion_tokens_details": {"reasoning_tokens": 320, "image_tokens": 0},
        },
        GPT,
        (1200, 1024, 0, 400, 320),
        ("input", 176, 440_000),
        ("cache_read", 1024, 1_280_000),
        ("output", 400, 4_000_000),
        amount=5_720_000,
    ),
    "OpenRouter, shape: the upstream told nothing": openai(
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0},
        GPT,
        None,
        *BOUND_GPT,
        amount=750_000,
    ),
    "DeepSeek, shape: the cache under two names": openai(
        {
            "prompt_tokens": 1030,
            "completion_tokens": 25,
            "total_tokens": 1055,
            "prompt_tokens_details": {"cached_tokens": 1024},
            "prompt_cache_hit_tokens": 1024,
            "prompt_cache_miss_tokens": 6,
        },
        DEEPSEEK,
        (1030, 1024, 0, 25, 0),
        ("input", 6, 1_620),
        ("cache_read", 1024, 71_680),
        ("output", 25, 27_500),
        amount=100_800,
    ),
    "DeepSeek, shape: the cache under its own name": openai(
        {
            "prompt_tokens": 105,
            "completion_tokens": 16,
            "total_tokens": 121,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 41,
        },
        DEEPSEEK,
        (105, 64, 0, 16, 0),
        ("input", 41, 11_070),
        ("cache_read", 64, 4_480),
        ("output", 16, 17_600),
        amount=33_150,
    ),
    "DeepSeek, shape: hits and misses are not the prompt": openai(
        {
            "prompt_tokens": 105,
            "completion_tokens": 16,
            "total_tokens": 121,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 40,
        },
        DEEPSEEK,
        None,
        *BOUND_DEEPSEEK,
        amount=82_000,
    ),
    "DeepSeek, shape: its reasoner": openai(
        {
            "prompt_tokens": 18,
            "completion_tokens": 210,
            "total_tokens": 228,
            "prompt_cache_hit_tokens": 0,
            "prompt_cache_miss_tokens": 18,
            "completion_tokens_details": {"reasoning_tokens": 190},
        },
        DEEPSEEK,
        (18, 0, 0, 210, 190),
        ("input", 18, 4_860),
        ("output", 210, 231_000),
        amount=235_860,
    ),
    "Moonshot, shape: cached tokens beside the totals": openai(
        {"prompt_tokens": 900, "completion_tokens": 30, "total_tokens": 930, "cached_tokens": 768},
        DEEPSEEK,
        (900, 768, 0, 30, 0),
        ("input", 132, 35_640),
        ("cache_read", 768, 53_760),
        ("output", 30, 33_000),
        amount=122_400,
    ),
    "xAI, documented: reasoning is only in the total": openai(
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "prompt_tokens_details": {"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 94, "audio_tokens": 0, **NO_PREDICTION},
            "num_sources_used": 0,
        },
        GPT,
        (32, 6, 0, 103, 94),
        ("input", 26, 65_000),
        ("cache_read", 6, 7_500),
        ("output", 103, 1_030_000),
        amount=1_102_500,
    ),
    "Groq, documented: times beside the counts": openai(
        {
            "queue_time": 0.037493756,
            "prompt_tokens": 18,
            "prompt_time": 0.000680594,
            "completion_tokens": 556,
            "completion_time": 0.463333333,
            "total_tokens": 574,
            "total_time": 0.464013927,
        },
        GPT,
        (18, 0, 0, 556, 0),
        ("input", 18, 45_000),
        ("output", 556, 5_560_000),
        amount=5_605_000,
    ),
    "Mistral, shape": openai(
        {"prompt_tokens": 16, "completion_tokens": 34, "total_tokens": 50},
        GPT,
        (16, 0, 0, 34, 0),
        ("input", 16, 40_000),
        ("output", 34, 340_000),
        amount=380_000,
    ),
    "SGLang, shape: reasoning beside the totals": openai(
        {
            "prompt_tokens": 20,
            "total_tokens": 52,
            "completion_tokens": 32,
            "prompt_tokens_details": None,
            "reasoning_tokens": 24,
        },
        THINKER,
        (20, 0, 0, 32, 24),
        ("input", 20, 40_000),
        ("output", 8, 64_000),
        ("reasoning", 24, 72_000),
        amount=176_000,
    ),
    "LiteLLM before Claude, shape: the cache under two names": openai(
        {
            "completion_tokens": 50,
            "prompt_tokens": 2100,
            "total_tokens": 2150,
            "completion_tokens_details": None,
            "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 2000},
            "cache_creation_input_tokens": 60,
            "cache_read_input_tokens": 2000,
        },
        CLAUDE,
        (2100, 2000, 60, 50, 0),
        ("input", 40, 120_000),
        ("cache_read", 2000, 600_000),
        ("cache_write", 60, 225_000),
        ("output", 50, 750_000),
        amount=1_695_000,
    ),
    "a gateway before Claude, shape: the prompt without its cache": openai(
        {"prompt_tokens": 40, "completion_tokens": 50, "total_tokens": 90, "cache_read_input_tokens": 2000},
        CLAUDE,
        None,
        *BOUND_CLAUDE,
        amount=1_125_000,
    ),
    "Gemini's OpenAI endpoint, shape: thoughts that nobody names": openai(
        {"prompt_tokens": 8, "completion_tokens": 10, "total_tokens": 250}, GPT, None, *BOUND_GPT, amount=750_000
    ),
    "Perplexity, shape: more reasoning than output": openai(
        {
            "prompt_tokens": 33,
            "completion_tokens": 7395,
            "total_tokens": 7428,
            "citation_tokens": 20028,
            "num_search_queries": 28,
            "reasoning_tokens": 134_000,
        },
        GPT,
        None,
        *BOUND_GPT,
        amount=750_000,
    ),
    "anybody, shape: two names, two numbers": openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 10},
            "cached_tokens": 20,
        },
        GPT,
        None,
        *BOUND_GPT,
        amount=750_000,
    ),
}

ANTHROPIC = {
    "Anthropic, shape: hello": anthropic(
        {"input_tokens": 12, "output_tokens": 6},
        (12, 0, 0, 6, 0),
        ("input", 12, 36_000),
        ("output", 6, 90_000),
        amount=126_000,
    ),
    "Anthropic, shape: a cache is written": anthropic(
        {
            "cache_creation_input_tokens": 188_086,
            "cache_read_input_tokens": 0,
            "input_tokens": 21,
            "output_tokens": 393,
        },
        (188_107, 0, 188_086, 393, 0),
        ("input", 21, 63_000),
        ("cache_write", 188_086, 705_322_500),
        ("output", 393, 5_895_000),
        amount=711_280_500,
    ),
    "Anthropic, shape: a cache is read": anthropic(
        {
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 188_086,
            "input_tokens": 21,
            "output_tokens": 393,
        },
        (188_107, 188_086, 0, 393, 0),
        ("input", 21, 63_000),
        ("cache_read", 188_086, 56_425_800),
        ("output", 393, 5_895_000),
        amount=62_383_800,
    ),
    "Anthropic, documented: caches of two lifetimes": anthropic(
        {
            "input_tokens": 2048,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
        },
        (4096, 1800, 248, 503, 0),
        ("input", 2048, 6_144_000),
        ("cache_read", 1800, 540_000),
        ("cache_write", 248, 930_000),
        ("output", 503, 7_545_000),
        amount=15_159_000,
    ),
    "Anthropic, documented: the reference's example, whose lifetimes are left at 0": anthropic(
        {
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
            "cache_creation_input_tokens": 2051,
            "cache_read_input_tokens": 2051,
            "input_tokens": 2095,
            "output_tokens": 503,
            "server_tool_use": {"web_search_requests": 0},
            "service_tier": "standard",
        },
        (6197, 2051, 2051, 503, 0),
        ("input", 2095, 6_285_000),
        ("cache_read", 2051, 615_300),
        ("cache_write", 2051, 7_691_250),
        ("output", 503, 7_545_000),
        amount=22_136_550,
    ),
    "Anthropic, shape: lifetimes that are not the sum": anthropic(
        {
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 5},
            "cache_creation_input_tokens": 6,
            "input_tokens": 12,
            "output_tokens": 6,
        },
        None,
        *BOUND_CLAUDE,
        amount=1_125_000,
    ),
    "Anthropic, shape: thinking is part of the output": anthropic(
        {
            "input_tokens": 43,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1210,
            "output_tokens_details": {"thinking_tokens": 1024},
            "service_tier": "standard",
            "inference_geo": "global",
        },
        (43, 0, 0, 1210, 1024),
        ("input", 43, 129_000),
        ("output", 1210, 18_150_000),
        amount=18_279_000,
    ),
    "Anthropic, documented: a refusal": anthropic(
        {
            "input_tokens": 564,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 22,
        },
        (564, 0, 0, 22, 0),
        ("input", 564, 1_692_000),
        ("output", 22, 330_000),
        amount=2_022_000,
    ),
    "Anthropic, documented: after a web search": anthropic(
        {
            "input_tokens": 105,
            "output_tokens": 6039,
            "cache_read_input_tokens": 7123,
            "cache_creation_input_tokens": 7345,
            "server_tool_use": {"web_search_requests": 1},
        },
        (14_573, 7123, 7345, 6039, 0),
        ("input", 105, 315_000),
        ("cache_read", 7123, 2_136_900),
        ("cache_write", 7345, 27_543_750),
        ("output", 6039, 90_585_000),
        amount=120_580_650,
    ),
    "Anthropic, shape: all of the prompt was cached": anthropic(
        {"input_tokens": 0, "cache_read_input_tokens": 4096, "cache_creation_input_tokens": 0, "output_tokens": 5},
        (4096, 4096, 0, 5, 0),
        ("input", 0, 0),
        ("cache_read", 4096, 1_228_800),
        ("output", 5, 75_000),
        amount=1_303_800,
    ),
    "Anthropic, shape: cache writes by lifetime only": anthropic(
        {
            "input_tokens": 10,
            "output_tokens": 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 90, "ephemeral_1h_input_tokens": 0},
        },
        (100, 0, 90, 1, 0),
        ("input", 10, 30_000),
        ("cache_write", 90, 337_500),
        ("output", 1, 15_000),
        amount=382_500,
    ),
    "Anthropic, shape: OpenAI's names": anthropic(
        {"prompt_tokens": 12, "completion_tokens": 6}, None, *BOUND_CLAUDE, amount=1_125_000
    ),
}

GOOGLE = {
    "Gemini, documented: thoughts beside the answer": gemini(
        {
            "promptTokenCount": 34,
            "candidatesTokenCount": 418,
            "totalTokenCount": 890,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 34}],
            "thoughtsTokenCount": 438,
        },
        (34, 0, 0, 856, 438),
        ("input", 34, 42_500),
        ("output", 856, 8_560_000),
        amount=8_602_500,
    ),
    "Gemini, recorded: cut while it thought": gemini(
        {
            "promptTokenCount": 844,
            "candidatesTokenCount": 46,
            "totalTokenCount": 2040,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 844}],
            "thoughtsTokenCount": 1150,
            "serviceTier": "standard",
        },
        (844, 0, 0, 1196, 1150),
        ("input", 844, 1_055_000),
        ("output", 1196, 11_960_000),
        amount=13_015_000,
    ),
    "Gemini, recorded: no thoughts": gemini(
        {
            "promptTokenCount": 844,
            "candidatesTokenCount": 278,
            "totalTokenCount": 1122,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 844}],
            "serviceTier": "standard",
        },
        (844, 0, 0, 278, 0),
        ("input", 844, 1_055_000),
        ("output", 278, 2_780_000),
        amount=3_835_000,
    ),
    "Gemini, shape: nothing but thoughts": gemini(
        {"promptTokenCount": 20, "totalTokenCount": 1044, "thoughtsTokenCount": 1024},
        (20, 0, 0, 1024, 1024),
        ("input", 20, 25_000),
        ("output", 1024, 10_240_000),
        amount=10_265_000,
    ),
    "Gemini, shape: a cached film, at the price of long prompts": gemini(
        {
            "promptTokenCount": 696_219,
            "cachedContentTokenCount": 696_190,
            "candidatesTokenCount": 214,
            "totalTokenCount": 696_433,
        },
        (696_219, 696_190, 0, 214, 0),
        ("input", 29, 72_500),
        ("cache_read", 696_190, 435_118_750),
        ("output", 214, 3_210_000),
        amount=438_401_250,
    ),
    "Gemini, shape: results of tools that the provider ran are input": gemini(
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 40,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "toolUsePromptTokenCount": 5,
            "totalTokenCount": 155,
            "trafficType": "ON_DEMAND",
        },
        (105, 40, 0, 50, 30),
        ("input", 65, 81_250),
        ("cache_read", 40, 12_400),
        ("output", 50, 500_000),
        amount=593_650,
    ),
    "Gemini, shape: a total without the results of tools": gemini(
        {
            "promptTokenCount": 100,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "toolUsePromptTokenCount": 5,
            "totalTokenCount": 150,
        },
        None,
        *BOUND_GEMINI,
        amount=625_000,
    ),
    "Gemini, shape: the total says that thoughts are counted already": gemini(
        {
            "promptTokenCount": 5000,
            "candidatesTokenCount": 30,
            "totalTokenCount": 5030,
            "cachedContentTokenCount": 4200,
            "thoughtsTokenCount": 12,
        },
        (5000, 4200, 0, 30, 12),
        ("input", 800, 1_000_000),
        ("cache_read", 4200, 1_302_000),
        ("output", 30, 300_000),
        amount=2_602_000,
    ),
    "Gemini, shape: a blocked prompt": gemini(
        {"promptTokenCount": 12, "totalTokenCount": 12},
        (12, 0, 0, 0, 0),
        ("input", 12, 15_000),
        ("output", 0, 0),
        amount=15_000,
    ),
    "Gemini, shape: the longest prompt of the lower price": gemini(
        {"promptTokenCount": 200_000, "candidatesTokenCount": 1, "totalTokenCount": 200_001},
        (200_000, 0, 0, 1, 0),
        ("input", 200_000, 250_000_000),
        ("output", 1, 10_000),
        amount=250_010_000,
    ),
    "Gemini, shape: tool results push a prompt into the higher price": gemini(
        {
            "promptTokenCount": 200_000,
            "toolUsePromptTokenCount": 1,
            "candidatesTokenCount": 1,
            "totalTokenCount": 200_002,
        },
        (200_001, 0, 0, 1, 0),
        ("input", 200_001, 500_002_500),
        ("output", 1, 15_000),
        amount=500_017_500,
    ),
}

GOLDENS = OPENAI | COMPATIBLE | ANTHROPIC | GOOGLE


@pytest.mark.parametrize("golden", GOLDENS.values(), ids=GOLDENS)
def test_a_usage_block_is_worth(golden: Golden) -> None:
    usage = golden.reader(golden.told)
    charge = charge_incurred(usage, golden.rates, 100, 50)

    assert (None if usage is None else tuple(usage.model_dump().values())) == golden.counts
    assert tuple((line.class_, line.tokens, line.nano_usd) for line in charge.lines) == golden.lines
    assert charge.nano_usd == golden.amount
    assert charge.usage_source == ("estimated" if golden.counts is None else "provider")


def test_there_are_enough_of_them() -> None:
    assert len(GOLDENS) >= 40
    assert sum(golden.counts is not None for golden in GOLDENS.values()) >= 40
