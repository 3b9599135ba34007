"""Reads a line as bash does, on tree-sitter's grammar: quotes, expansions, chains, pipes, here-documents. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import tree_sitter
import tree_sitter_bash

from harness.shellguard.reading import HOLE, MAX_DEPTH, ParsedLine, ProgramCall, awaited, printed

_SPLIT = "\x1f"  # inside a word under construction: the shell would start a new word here
_NESTED = frozenset({"command_substitution", "process_substitution"})
_REDIRECTS = frozenset({"file_redirect", "heredoc_redirect", "herestring_redirect"})
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_STRING_ESCAPE = re.compile(r"\\([\"\\$`\n])")
_CONTINUED = re.compile(rb"(?<!\\)((?:\\\\)*)\\\n")
# The grammar takes the end of a line into the word behind it when that word starts with a backslash.
_LINE_AT_BACKSLASH = re.compile(rb"((?<!\\)(?:\\\\)*\n)(?=\\)")
# The grammar's scanner indexes C's character tables with whole code points and dies on large ones; to bash every
# byte beyond ASCII is a letter of a word. Offsets stay as they are.
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


def read(text: str) -> ParsedLine:
    """Every call in a line of bash, nested ones included; an unreadable rest is a doubt, never silence."""
    source = _LINE_AT_BACKSLASH.sub(rb"\1 ", text.replace("\r\n", "\n").encode("utf-8", "surrogatepass"))
    reading, comments = _read_once(source)
    if _CONTINUED.search(source):
        # The grammar ends a word at a continued line; the shell does not. Both readings count.
        joined, _ = _read_once(_CONTINUED.sub(lambda found: _join(found, comments), source))
        reading = ParsedLine(reading.calls + joined.calls, reading.doubts + joined.doubts)
    return reading


def _join(found: re.Match[bytes], comments: list[tuple[int, int]]) -> bytes:
    commented = any(start <= found.end() - 2 < end for start, end in comments)
    return found[0] if commented else found[1]


def _read_once(source: bytes) -> tuple[ParsedLine, list[tuple[int, int]]]:
    reader = _Reader(source)
    root = _parser().parse(_NOT_ASCII.sub(b"U", source)).root_node
    reader.visit(root, depth=0)
    if root.has_error:
        reader.doubts.append("the line does not parse as a shell command")
    return ParsedLine(awaited(tuple(reader.calls)), tuple(reader.doubts)), reader.comments


class _Reader:
    """One walk over one syntax tree."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.calls: list[ProgramCall] = []
        self.doubts: list[str] = []
        self.variables: dict[str, str] = {}
        self.comments: list[tuple[int, int]] = []

    def text(self, node: tree_sitter.Node) -> str:
        return self.between(node.start_byte, node.end_byte)

    def between(self, start: int, end: int) -> str:
        return self.source[start:end].decode("utf-8", "replace")

    def visit(self, node: tree_sitter.Node, *, depth: int, background: bool = False, stdin: str | None = None) -> None:
        """Collect the calls under a node; ``stdin`` is the text its commands would read."""
        if depth > MAX_DEPTH:
            self.doubts.append("commands are nested too deep")
            return
        kind = node.type
        if kind == "command":
            self._command(node, depth, background=background, stdin=stdin)
        elif kind == "pipeline":
            self._pipeline(list(node.children), depth, background=background, stdin=stdin)
        elif kind == "redirected_statement":
            self._redirected(node, depth, background=background, stdin=stdin)
        elif kind == "declaration_command":
            words = [w for child in node.children for w in self.word(child, depth)]
            self.calls.append(ProgramCall(tuple(words)))
            for child in node.named_children:
                if child.type == "variable_assignment":
                    self._assign(child, depth)
        elif kind == "variable_assignment":
            self._assign(node, depth)
        elif kind == "comment":
            self.comments.append((node.start_byte, node.end_byte))
        else:
            self._children(node, depth, background=background, stdin=stdin)

    def _children(self, node: tree_sitter.Node, depth: int, *, background: bool, stdin: str | None) -> None:
        children = node.children
        if node.type == "file_redirect":  # ``$(< file)``
            files: list[str] = []
            self._redirect(node, depth, files)
            self.calls.append(ProgramCall(("cat",), files=tuple(files)))
        if node.type == "for_statement":
            self.variables.update({self.text(c): HOLE for c in children if c.type == "variable_name"})
        for i, child in enumerate(children):
            if not child.is_named:
                continue
            lone = i + 1 < len(children) and children[i + 1].type == "&"
            self.visit(child, depth=depth + 1, background=background or lone, stdin=stdin)

    def _command(self, node: tree_sitter.Node, depth: int, *, background: bool, stdin: str | None) -> None:
        words: list[str] = []
        env: list[str] = []
        files: list[str] = []
        end = -1
        for child in node.children:
            if child.type == "variable_assignment":
                env.extend(self.word(child, depth))
            elif child.type in _REDIRECTS:
                stdin = self._redirect(child, depth, files) or stdin
            elif child.type == "comment":
                self.comments.append((child.start_byte, child.end_byte))
            else:
                more = self.word(child, depth)
                if child.start_byte == end and words and more:
                    # The grammar cuts a word at a backslash behind a quote; the shell cuts only at blanks.
                    words[-1] += more.pop(0)
                words.extend(more)
                end = child.end_byte
        if words or env:
            call = ProgramCall(tuple(words), tuple(env), stdin, background=background, files=tuple(files))
            self.calls.append(call)

    def _pipeline(
        self, stages: list[tree_sitter.Node], depth: int, *, background: bool, stdin: str | None, piped: bool = False
    ) -> None:
        for stage in stages:
            if not stage.is_named:
                continue
            before = len(self.calls)
            self.visit(stage, depth=depth + 1, background=background, stdin=stdin)
            if piped:
                self.calls[before:] = [replace(call, piped=True) for call in self.calls[before:]]
            stdin = printed(self.calls[-1]) if len(self.calls) > before else None
            piped = True

    def _redirected(self, node: tree_sitter.Node, depth: int, *, background: bool, stdin: str | None) -> None:
        rest: list[tree_sitter.Node] = []
        files: list[str] = []
        for child in node.children:
            if child.type in _REDIRECTS:
                stdin = self._redirect(child, depth, files) or stdin
                rest.extend(c for c in child.named_children if child.type == "heredoc_redirect" and _is_statement(c))
        body = node.child_by_field_name("body")
        before = len(self.calls)
        if body is not None:
            self.visit(body, depth=depth + 1, background=background, stdin=stdin)
        elif files:
            self.calls.append(ProgramCall(("cat",)))  # ``> file`` and no more
        if files:
            self.calls[before:] = [replace(one, files=(*one.files, *files)) for one in self.calls[before:]]
        if not rest:
            return
        # ``cat <<EOF | sh``: the grammar puts what follows the marker inside the redirection.
        fed = printed(self.calls[-1]) if len(self.calls) > before else None
        for child in rest:
            if child.type == "pipeline":
                self._pipeline(list(child.children), depth, background=background, stdin=fed, piped=True)
            else:
                self.visit(child, depth=depth + 1, background=background)

    def _redirect(self, node: tree_sitter.Node, depth: int, files: list[str]) -> str | None:
        """The literal text that a redirection feeds, if it is one that does; the file that it names goes to ``files``.

        Commands inside it are collected.
        """
        if node.type == "heredoc_redirect":
            for child in node.children:  # ``cat <<EOF > file``
                if child.type == "file_redirect":
                    self._redirect(child, depth, files)
            body = next((c for c in node.children if c.type == "heredoc_body"), None)
            if body is None:
                return None
            self._collect(body, depth)
            return self.text(body)
        if node.type == "herestring_redirect":
            return " ".join(w for child in node.named_children for w in self.word(child, depth))
        files.extend(w for c in node.named_children if c.type != "file_descriptor" for w in self.word(c, depth))
        return None

    def _collect(self, node: tree_sitter.Node, depth: int) -> None:
        """Collect the calls of every substitution under a node."""
        for child in node.children:
            if child.type in _NESTED:
                self.visit(child, depth=depth + 1)
            elif depth < MAX_DEPTH:
                self._collect(child, depth)

    def _assign(self, node: tree_sitter.Node, depth: int) -> None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None:
            return
        key = self.text(name)
        words = self.word(value, depth) if value is not None else [""]
        # Two assignments of one name: which one holds is known only when the line runs.
        self.variables[key] = HOLE if key in self.variables else " ".join(words)

    def word(self, node: tree_sitter.Node, depth: int) -> list[str]:
        """The words that one node becomes after quotes are removed and known variables are put in."""
        return [part for part in self._expand(node, depth).split(_SPLIT) if part or node.type != "simple_expansion"]

    def _expand(self, node: tree_sitter.Node, depth: int) -> str:
        if depth > MAX_DEPTH:
            self.doubts.append("words are nested too deep")
            return HOLE
        match node.type:
            case "simple_expansion" | "expansion":
                value = self._variable(node, depth)
            case "command_substitution" | "process_substitution":
                self.visit(node, depth=depth + 1)
                value = HOLE
            case "arithmetic_expansion":
                self._collect(node, depth)
                value = HOLE
            case "raw_string":
                value = self.text(node)[1:-1]
            case "ansi_c_string":
                value = _ansi(self.text(node)[2:-1])
            case "string" | "translated_string":
                value = self._quoted(node, depth)
            case "concatenation":
                value = self._concatenation(node, depth)
            case _ if node.named_child_count:
                value = self._pieces(node, depth)
            case _:
                value = self._bare(node)
        return value

    def _bare(self, node: tree_sitter.Node) -> str:
        value = _ESCAPE.sub(lambda found: "" if found[1] == "\n" else found[1], self.text(node))
        if "\n" in value:
            self.doubts.append("a word runs over the end of its line")
        return value

    def _pieces(self, node: tree_sitter.Node, depth: int) -> str:
        """A node's children joined, with the text between them that the grammar names nowhere."""
        out: list[str] = []
        at = node.start_byte
        for child in node.children:
            out.append(self.between(at, child.start_byte))
            out.append(self._expand(child, depth + 1))
            at = child.end_byte
        out.append(self.between(at, node.end_byte))
        return "".join(out)

    def _concatenation(self, node: tree_sitter.Node, depth: int) -> str:
        if not any(c.type == "word" and self.text(c) in {"{", "}"} for c in node.children):
            return "".join(self._expand(child, depth + 1) for child in node.children)
        # A brace expansion makes several words; what it makes is left open.
        out, inside = "", 0
        for child in node.children:
            text = self.text(child)
            inside += (text == "{") - (text == "}" and inside > 0)
            if text == "{" and inside == 1:
                out += HOLE
            elif not inside and text != "}":
                out += self._expand(child, depth + 1)
            elif inside:
                self._collect(child, depth)
        return out

    def _quoted(self, node: tree_sitter.Node, depth: int) -> str:
        if node.type == "translated_string":
            return "".join(self._quoted(c, depth) for c in node.named_children if c.type == "string")
        out: list[str] = []
        at = node.start_byte + 1
        for child in node.named_children:
            out.append(_unescape(self.between(at, child.start_byte)))
            if child.type == "string_content":
                out.append(_unescape(self.text(child)))
            else:
                out.append(self._expand(child, depth + 1).replace(_SPLIT, " "))
            at = child.end_byte
        out.append(_unescape(self.between(at, max(at, node.end_byte - 1))))
        return "".join(out)

    def _variable(self, node: tree_sitter.Node, depth: int) -> str:
        self._collect(node, depth)
        lead = self.text(node).split("$", 1)[0]  # the grammar lets blanks before the sign into the node
        name = self.text(node).strip().lstrip("$").strip("{}")
        if not _NAME.fullmatch(name):
            return lead + HOLE
        value = self.variables.get(name, HOLE)
        in_string = node.parent is not None and node.parent.type == "string"
        return lead + (value if in_string else _SPLIT.join(value.split()))


def _is_statement(node: tree_sitter.Node) -> bool:
    return node.type not in {"heredoc_start", "heredoc_body", "heredoc_end", "heredoc_content"}


def _unescape(text: str) -> str:
    return _STRING_ESCAPE.sub(lambda found: "" if found[1] == "\n" else found[1], text)


def _ansi(text: str) -> str:
    r"""Text that ``$'...'`` stands for: bash's escapes are Python's, but for \\e and \\c, which make a hole."""
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        return HOLE
