"""Chat templates as models have them, conversations, and tools."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are helpful.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

MISTRAL = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported') }}
    {%- endif %}
{%- endfor %}
"""

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- set ns = namespace(tool_count=0) %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {%- set ns.tool_count = ns.tool_count + 1 %}
        {{- ns.tool_count ~ ". " ~ t.function.name }}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- macro content_of(message) %}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- else %}
        {%- for block in message.content if block.type == 'text' %}
            {{- block.text | trim }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- for message in messages %}
    {%- if message.role == 'skip' %}{% continue %}{% endif %}
    {%- if 'tool_calls' in message %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role in ["tool", "ipython"] %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ content_of(message) + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

RAG = """{% for d in documents %}Document {{ loop.index }}/{{ documents|length }}: {{ d.title|upper }} {{ d['text'] }}
{% endfor %}{% for m in messages|selectattr('role', 'equalto', 'user') %}
  {% set rest = m.content.split('</think>')[-1].strip() %}
Q: {{ rest|replace('  ', ' ') }}{{ "!" * 2 }}{{ "%s-%02d" % (m.role, loop.index) }} {{ "{:>5}".format(loop.index) }}
{{ rest.splitlines()|join(' / ')|indent(2) }} {{ (m.content|length + 3) // 2 ** 2 }} {{ rest[::-1] }} {{ [1, 2] + [3] }}
{% endfor %}
{{- dict(a=1)|items|list }} {{ range(3)|list }} {{ {'b': 2}.get('b') }} {{ extra|default('none') }} {{ missing }}
"""

GENERATION = """{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"""

CHAT = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Hi, who are you? <b>Grüße</b>"},
    {"role": "assistant", "content": "A model & more."},
    {"role": "user", "content": "two\nlines  'quoted' \"twice\""},
]
SHORT = [{"role": "user", "content": "Hello there"}]
TOOL_CHAT = [
    {"role": "user", "content": [{"type": "text", "text": " What is the weather in Rome? "}, {"type": "image"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"place": "Rome & <b>"}}}],
    },
    {"role": "tool", "content": {"degrees": 21.5, "sky": "klar ☀"}},
    {"role": "skip", "content": "never seen"},
    {"role": "assistant", "content": "21.5 °C"},
]


class Unit(Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


def weather(
    place: str,
    days: int = 1,
    unit: Unit = Unit.CELSIUS,
    kind: Literal["air", "sea"] = "air",
    at: list[float] | None = None,
) -> dict[str, Any]:
    """
    Get the weather
    at a place.

    Args:
        place: The city, such as
            Rome: the eternal one
        days: How many days (choices: [1, 3, 7])
        unit: The unit
        kind: What of
        at: Where exactly

    Returns:
        The weather, by day

    Raises:
        ValueError: Never
    """
    return {}


class Tools:
    def search(self, query: str, flags: dict[str, bool], pair: tuple[int, str], some: int | str, any_of: Any) -> None:
        """Search.

        Args:
            query: What for
            flags: How
            pair: Two
            some: One
            any_of: All
        """
