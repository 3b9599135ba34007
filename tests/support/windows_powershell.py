"""Reads a script as Windows PowerShell 5.1 would, the newest that Windows brings with it: what it lacks is named.

The grammar knows the language of that version, a little more, and nothing of what came later. Commands, parameters,
variables, types and members are held to what is known to be in 5.1, by Microsoft's reference pages for that version;
what is not in these tables is not known, and may be added when it has been looked up there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import tree_sitter
import tree_sitter_powershell

COMMON = {"erroraction", "warningaction", "verbose", "debug", "errorvariable", "outvariable", "whatif", "confirm"}
COMMANDS = {
    "get-command": {"name", "commandtype"},
    "get-location": {"psprovider", "psdrive"},
    "get-item": {"path", "literalpath", "force"},
    "get-content": {"path", "literalpath", "encoding", "raw", "totalcount", "tail", "wait"},
    "join-path": {"path", "childpath", "resolve"},
    "out-null": set(),
    "read-host": {"prompt", "assecurestring"},
    "set-content": {"path", "literalpath", "value", "encoding", "force"},
    "set-strictmode": {"version", "off"},
    "split-path": {"path", "literalpath", "parent", "leaf", "qualifier", "noqualifier", "isabsolute", "resolve"},
    "test-path": {"path", "literalpath", "pathtype", "isvalid"},
    "where-object": {"filterscript", "property", "value", "eq", "ne"},
    "foreach-object": {"process", "begin", "end", "membername"},
    "write-error": {"message", "category"},
    "write-host": {"object", "nonewline", "foregroundcolor"},
    "write-output": {"inputobject"},
    "write-verbose": {"message"},
    "write-warning": {"message"},
}
"""Commands and parameters that 5.1 has, of those that a script like ours can need."""

VALUES = {"encoding": {"ascii", "bigendianunicode", "default", "oem", "string", "unicode", "utf7", "utf8", "utf32"}}
"""Parameters of which 5.1 takes these values only."""

AUTOMATIC = {
    "true",
    "false",
    "null",
    "_",
    "args",
    "input",
    "error",
    "lastexitcode",
    "pscmdlet",
    "psitem",
    "home",
    "pwd",
}
AUTOMATIC |= {"psscriptroot", "pscommandpath", "psboundparameters", "psversiontable", "myinvocation", "host", "matches"}
AUTOMATIC |= {"erroractionpreference", "warningpreference", "verbosepreference", "confirmpreference"}
TYPES = {"string", "int", "long", "bool", "switch", "array", "hashtable", "datetime", "void", "object", "byte", "char"}
ATTRIBUTES = {
    "cmdletbinding": {"supportsshouldprocess", "confirmimpact", "defaultparametersetname", "positionalbinding"},
    "parameter": {"mandatory", "position", "parametersetname", "valuefrompipeline", "helpmessage"},
    "validaterange": set(),
    "validatepattern": set(),
    "validateset": set(),
    "validatenotnullorempty": set(),
    "alias": set(),
}
MEMBERS = {"trimend", "trimstart", "trim", "length", "count", "providerpath", "path", "shouldprocess", "tostring"}
MEMBERS |= {"startswith", "endswith", "toupper", "tolower", "split", "replace", "name", "fullname", "message"}


def lacks(data: bytes) -> list[str]:
    """Everything in a script that Windows PowerShell 5.1 would not read, or would read as something else."""
    marked = data.startswith(b"\xef\xbb\xbf")
    if not marked and not data.isascii():
        return ["bytes that are not ASCII, and no mark before them: they are read in the code page of the machine"]
    text = data.decode("utf-8-sig")
    root = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(text.encode()).root_node
    nodes = list(nodes_of(root))
    told = [f"no syntax of 5.1: {text_of(node)[:60]!r}" for node in nodes if node.type == "ERROR" or node.is_missing]
    required = re.findall(r"^#requires\s+-version\s+(\d+)(?:\.(\d+))?", text, re.IGNORECASE | re.MULTILINE)
    told += [f"#Requires -Version {major}" for major, minor in required if (int(major), int(minor or 0)) > (5, 1)]
    own = {text_of(node).lstrip("$@").lower() for node in nodes if node.type == "variable" and _is_set(node)}
    for node in nodes:
        told += _of(node, own)
    return told


def unread_exit_codes(data: bytes) -> list[str]:
    """Programs after which the next statement does not look at $LASTEXITCODE: PowerShell itself goes on after them."""
    root = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(data).root_node
    told = []
    for node in nodes_of(root):
        if node.type == "command" and _is_program(node):
            statement = node
            while statement.parent is not None and statement.parent.type != "statement_list":
                statement = statement.parent
            after = statement.next_named_sibling
            while after is not None and after.type == "comment":
                after = after.next_named_sibling
            if after is None or "$LASTEXITCODE" not in text_of(after):
                told.append(text_of(node)[:80])
    return told


def _of(node: tree_sitter.Node, own: set[str]) -> Iterator[str]:
    if node.type == "variable":
        yield from _of_variable(node, own)
    elif node.type in _READERS:
        yield from _READERS[node.type](node)


def _of_variable(node: tree_sitter.Node, own: set[str]) -> Iterator[str]:
    name = text_of(node).lower().lstrip("$@").removeprefix("global:").strip("{}")
    if not name.startswith("env:") and name not in own | AUTOMATIC:
        yield f"no variable that is known there: ${name}"


def _of_chain(node: tree_sitter.Node) -> Iterator[str]:
    yield f"a chain of pipelines: {text_of(node)[:60]!r}"


def _of_type(node: tree_sitter.Node) -> Iterator[str]:
    if text_of(node).lower() not in TYPES and not _inside(node, "attribute_name"):
        yield f"no type that is known there: [{text_of(node)}]"


def _of_member(node: tree_sitter.Node) -> Iterator[str]:
    if text_of(node).lower() not in MEMBERS:
        yield f"no member that is known there: .{text_of(node).lower()}"


def _of_string(node: tree_sitter.Node) -> Iterator[str]:
    if re.search(r"`(e|u\{)", text_of(node)):
        yield f"an escape in {text_of(node)[:60]!r}"


def _of_range(node: tree_sitter.Node) -> Iterator[str]:
    if re.match(r"['\"].*\.\.", text_of(node)):
        yield f"a range of characters: {text_of(node)[:60]!r}"


def _of_operator(node: tree_sitter.Node) -> Iterator[str]:
    after = node.next_named_sibling
    blocks = after is not None and any(one.type == "script_block_expression" for one in nodes_of(after))
    if blocks and text_of(node).lower().endswith("replace"):
        yield "a script block in the place of what replaces"


def _of_command(node: tree_sitter.Node) -> Iterator[str]:
    name = _name(node)
    if _is_program(node):
        return
    if name not in COMMANDS:
        yield f"no command that is known there: {name}"
        return
    given = [text_of(one).lower().lstrip("-").rstrip(":") for one in nodes_of(node) if one.type == "command_parameter"]
    yield from (f"{name} has no -{one} there" for one in given if one not in COMMANDS[name] | COMMON)
    for parameter, values in VALUES.items():
        for value in re.findall(rf"-{parameter}[ :]+([\w-]+)", text_of(node), re.IGNORECASE):
            if value.lower() not in values:
                yield f"-{parameter} takes no {value} there"


def _of_attribute(node: tree_sitter.Node) -> Iterator[str]:
    name = next((text_of(one).lower() for one in nodes_of(node) if one.type == "attribute_name"), "")
    if not name:  # a type in front of a parameter, which is judged as a type
        return
    if name not in ATTRIBUTES and name not in TYPES and not name.endswith("[]"):
        yield f"no attribute that is known there: {name}"
        return
    for one in nodes_of(node):
        found = re.match(r"(\w+)\s*=", text_of(one)) if one.type == "attribute_argument" else None
        if found is not None and found[1].lower() not in ATTRIBUTES.get(name, set()):
            yield f"{name} has no {found[1]} there"


_READERS: dict[str, Callable[[tree_sitter.Node], Iterator[str]]] = {
    "pipeline_chain_tail": _of_chain,
    "command": _of_command,
    "type_identifier": _of_type,
    "attribute": _of_attribute,
    "member_name": _of_member,
    "expandable_string_literal": _of_string,
    "range_expression": _of_range,
    "comparison_operator": _of_operator,
}


def _is_program(node: tree_sitter.Node) -> bool:
    """True for a command that is no cmdlet: the names of those are a verb, a hyphen and a noun."""
    name = _name(node)
    return re.fullmatch(r"[a-z][a-z0-9_.]*", name) is not None and name not in {"foreach", "where", "using", "sleep"}


def _name(node: tree_sitter.Node) -> str:
    return next((text_of(one).lower() for one in node.children if one.type == "command_name"), "&")


def _is_set(node: tree_sitter.Node) -> bool:
    above = node.parent.type if node.parent is not None else ""
    return (
        above == "foreach_statement" or _inside(node, "left_assignment_expression") or _inside(node, "script_parameter")
    )


def _inside(node: tree_sitter.Node, kind: str) -> bool:
    above = node.parent
    while above is not None:
        if above.type == kind:
            return True
        above = above.parent
    return False


def nodes_of(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """A node and all below it."""
    yield node
    for child in node.children:
        yield from nodes_of(child)


def text_of(node: tree_sitter.Node) -> str:
    """Source text of a node."""
    return (node.text or b"").decode()
