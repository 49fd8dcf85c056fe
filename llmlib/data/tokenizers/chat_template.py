"""A conversation written out as the one text that a chat model was tuned on.

The template is a small program in the Jinja language that comes with the weights. It runs in a
sandbox: a file from the network may format text, not reach the machine.
"""

import datetime
import json
from collections.abc import Sequence
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import override

from llmlib.core.task import Message


class ChatTemplate:
    """A chat template, compiled once.

    Args:
        **variables: Names that the template may use besides the messages, such as `bos_token`.

    Raises:
        ValueError: If the template is not valid Jinja.

    Example:
        >>> source = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
        >>> template = ChatTemplate(source)
        >>> template.render([{"role": "user", "content": "Hi"}])
        '[user] Hi'
    """

    def __init__(self, source: str, **variables: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, LoopControlExtension],
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        self.source = source
        self.variables = variables
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateSyntaxError, SyntaxError) as error:  # a stray break is the latter
            raise ValueError(f"the chat template cannot be read: {error}") from error

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        **variables: Any,
    ) -> str:
        """Write a conversation out as text, in which the special tokens are spelt out.

        Args:
            add_generation_prompt: End with the beginning of the assistant's next turn.
            **variables: More names for the template, such as `tools`.

        Raises:
            ValueError: If the template refuses the messages, or fails.
        """
        names = {"tools": None, "documents": None, **self.variables, **variables}
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **names
            )
        except (jinja2.TemplateError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"the chat template does not take these messages: {error}") from error


class _GenerationBlock(Extension):
    """`{% generation %}` round what an assistant wrote, which training may want to find."""

    tags = {"generation"}

    @override
    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)  # names set inside are not known behind it


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes < and > for web pages.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
