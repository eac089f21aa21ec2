"""YAML as plain data: numbers, text, lists and mappings, of a depth and size that a person writes.

YAML can do more than a configuration needs: aliases of aliases multiply a file's size without
limit, nesting without end exhausts the stack, and dates are no values of any setting.
"""

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

LARGEST = 2**18
"""Bytes of the largest file that is read."""
_DEEPEST = 32
_MOST_NODES = 2**16
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without dates, repeated keys, deep nesting and aliases without end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0
        self.sizes: dict[str, int] = {}  # nodes below an anchor, aliases written out

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._refused(f"it is nested more than {_DEEPEST} levels deep")
        before = self.nodes
        if isinstance(event, yaml.AliasEvent) and event.anchor in self.anchors:
            if event.anchor not in self.sizes:
                raise self._refused(f"the value &{event.anchor} contains itself")
            self.nodes += self.sizes[event.anchor]
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise self._refused(f"it has more than {_MOST_NODES} values")
        node = super().compose_node(parent, index)
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self.sizes[event.anchor] = self.nodes - before
        self.depth -= 1
        return node

    def _refused(self, problem: str) -> ComposerError:
        return ComposerError(None, None, problem, self.peek_event().start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag + str(key.value) in seen:
                problem = f"the key {str(key.value)[:40]!r} is there twice"
                raise ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.tag + str(key.value))
        return super().construct_mapping(node, deep)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str) -> Any:
    """The value that a text holds.

    Raises:
        ValueError: it is no such YAML; its text gives the problem and the line.
    """
    if len(text) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST // 1024} KiB")
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem}{line}") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ValueError(str(error).splitlines()[0][:200] if str(error) else "damaged") from error
