"""Reads a line as PowerShell does, on tree-sitter's grammar: call operators, backticks, script blocks, arrays. Pure."""

from __future__ import annotations

import re
from functools import cache

import tree_sitter
import tree_sitter_powershell

from harness.shellguard.programs import CODE
from harness.shellguard.reading import HOLE, MAX_DEPTH, ParsedLine, ProgramCall, awaited, names, printed, program

_STRINGS = names(
    """
    expandable_string_literal expandable_here_string_literal
    verbatim_string_characters verbatim_here_string_characters
    """
)
_TOKENS = names("command_name generic_token command_parameter variable stop_parsing integer_literal real_literal")
_LISTS = frozenset({"path_command_name", "command_name_expr", "statement_list"})
_JOBS = frozenset({"start-job", "start-threadjob", "sajb"})
_SKIPPED = frozenset({"command_argument_sep", "redirection", "command_invokation_operator"})
_LONE = re.compile(r"[$@][A-Za-z_]\w*|\$\{[^}]*\}")
_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*(?::[A-Za-z0-9_]+)?)|\(.*|[$?^@_])", re.DOTALL)
# To PowerShell, typographic quotes and dashes are quotes and dashes (language specification, 2.3.5.2 and 2.3.4).
_SIGNS = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e"), '"'),
    **dict.fromkeys(map(ord, "\u2013\u2014\u2015"), "-"),
}
_QUOTES = "'\""
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "0": HOLE}


@cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))


def read(text: str) -> ParsedLine:
    """Every call in a line of PowerShell, script blocks included; an unreadable rest is a doubt, never silence."""
    source = text.translate(_SIGNS).replace("\r\n", "\n").encode("utf-8", "surrogatepass")
    root = _parser().parse(source).root_node
    if root.has_error:  # the grammar knows no ``--`` for programs: ``wsl -- vastai ...``
        quoted = re.sub(rb"(?<=\s)--(?=\s)", b'"--"', source)
        if not (again := _parser().parse(quoted).root_node).has_error:
            source, root = quoted, again
    reader = _Reader(source)
    reader.visit(root, depth=0)
    if root.has_error and not reader.only_background:
        reader.doubts.append("the line does not parse as PowerShell")
    if reader.runs_code:
        reader.calls.append(ProgramCall((CODE, "\n".join(reader.code))))
    return ParsedLine(awaited(tuple(reader.calls)), tuple(reader.doubts))


class _Reader:
    """One walk over one syntax tree."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.calls: list[ProgramCall] = []
        self.doubts: list[str] = []
        self.variables: dict[str, tuple[str, ...]] = {}
        self.code: list[str] = []
        self.runs_code = False
        # The grammar knows no background operator; a line whose only error is its last ``&`` was read whole.
        self.only_background = source.rstrip().endswith(b"&") and not self._errors_before_last()

    def _errors_before_last(self) -> bool:
        return _parser().parse(self.source.rstrip()[:-1]).root_node.has_error

    def text(self, node: tree_sitter.Node) -> str:
        return self.source[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def visit(self, node: tree_sitter.Node, *, depth: int, background: bool = False, stdin: str | None = None) -> None:
        """Collect the calls under a node; ``stdin`` is the text its commands would read."""
        if depth > MAX_DEPTH * 4:  # one level of PowerShell's expressions is a dozen nodes
            self.doubts.append("commands are nested too deep")
            return
        if node.type == "command":
            self._command(node, depth, background=background, stdin=stdin)
        elif node.type == "pipeline_chain":
            self._chain(node, depth, background=background)
        elif node.type == "assignment_expression":
            self._assign(node, depth)
        else:
            if node.type == "invokation_expression":
                self.runs_code = True
                self.code.append(self.text(node))
            # A command in front of ``&`` is an error to the grammar; to PowerShell it is a background job.
            background = background or node.type == "ERROR"
            for child in node.named_children:
                self.visit(child, depth=depth + 1, background=background, stdin=stdin)

    def _chain(self, node: tree_sitter.Node, depth: int, *, background: bool) -> None:
        stdin: str | None = None
        piped = False
        beside = node.next_named_sibling
        files = self._files(beside) if beside is not None and beside.type == "redirections" else ()
        for stage in node.named_children:
            if stage.type == "command":
                self._command(stage, depth + 1, background=background, stdin=stdin, piped=piped)
                stdin = printed(self.calls[-1]) if self.calls else None
            else:
                words = self.words(stage, depth + 1)
                stdin = None if HOLE in words else "\n".join(words)
                if files:  # ``'text' > file``
                    self.calls.append(ProgramCall(("write-output", *words), files=files))
            piped = True

    def _files(self, node: tree_sitter.Node) -> tuple[str, ...]:
        """Names of the files that redirections write to."""
        return tuple(self.text(node).lstrip("0123456789*>& ").split()[:1])

    def _command(
        self, node: tree_sitter.Node, depth: int, *, background: bool, stdin: str | None, piped: bool = False
    ) -> None:
        words: list[str] = []
        name = node.child_by_field_name("command_name")
        job = name is not None and program(self.text(name)) in _JOBS
        at = len(self.calls)
        files: list[str] = []
        for child in node.named_children:
            if child.type == "command_elements":
                for element in child.named_children:
                    if element.type == "redirection":
                        files.extend(self._files(element))
                    words.extend(self.words(element, depth + 1, background=background or job))
            else:
                words.extend(self.words(child, depth + 1, background=background))
        if words:
            # In front of what its arguments run, so that ``wait`` stays behind what it waits for.
            self.calls.insert(at, ProgramCall(tuple(words), (), stdin, piped, background, tuple(files)))

    def _assign(self, node: tree_sitter.Node, depth: int) -> None:
        parts = [child for child in node.named_children if child.type != "comment"]
        name = self.text(parts[0]).strip().rpartition("$")[2].strip("{}").lower()  # ``[string[]] $name``
        words = self.words(parts[-1], depth + 1)
        self.code.append(self.text(node))
        if name.startswith("env:"):
            self.calls.append(ProgramCall(("export", f"{name[4:].upper()}={' '.join(words)}")))
        # Two assignments of one name: which one holds is known only when the line runs.
        self.variables[name] = (HOLE,) if name in self.variables or len(parts) < 3 else tuple(words)

    def words(  # noqa: PLR0911 - one case a kind of node
        self, node: tree_sitter.Node, depth: int, *, background: bool = False
    ) -> list[str]:
        """The arguments that one node becomes; what must be computed is a hole, what it runs is collected."""
        if depth > MAX_DEPTH * 4:
            self.doubts.append("words are nested too deep")
            return [HOLE]
        kind = node.type
        if kind in _SKIPPED:
            return []
        if kind in _STRINGS | _TOKENS:
            self._collect(node, depth)
            return self._literal(kind, self.text(node))
        if kind == "hash_literal_expression":
            return self._splat(node, depth)
        if kind == "additive_expression" and node.child_count == 3 and node.children[1].type == "+":
            both = self.words(node.children[0], depth + 1) + self.words(node.children[2], depth + 1)
            return ["".join(both)] if len(both) == 2 else [HOLE]
        if self._is_list(node):
            return [w for child in node.named_children for w in self.words(child, depth + 1, background=background)]
        self.visit(node, depth=depth + 1, background=background)
        return [HOLE]

    def _splat(self, node: tree_sitter.Node, depth: int) -> list[str]:
        """A hash table as the parameters that it is splatted into."""
        if node.type == "hash_entry":
            key, *value = node.named_children
            return [f"-{self.text(key).strip(_QUOTES)}", *(w for one in value for w in self.words(one, depth + 1))]
        return [word for child in node.named_children for word in self._splat(child, depth + 1)]

    def _literal(self, kind: str, text: str) -> list[str]:
        if kind == "stop_parsing":
            return text.removeprefix("--%").split()
        if kind in _TOKENS and _LONE.fullmatch(text):  # an array is several words, and so is what is splatted
            return list(self.variables.get(text[1:].strip("{}").lower(), (HOLE,)))
        return [self._string(text) if kind in _STRINGS else self._token(text)]

    def _is_list(self, node: tree_sitter.Node) -> bool:
        """True for a node that stands for its children: a bare wrapper, an array, parentheses, ``@(...)``."""
        children = node.named_children
        if node.type == "array_literal_expression" or node.type in _LISTS:
            return bool(children)
        if len(children) != 1 or node.type == "script_block_expression":
            return False
        bare = node.child_count == 1 or node.type == "parenthesized_expression"
        return bare or self.text(node).startswith("@(")

    def _collect(self, node: tree_sitter.Node, depth: int) -> None:
        for child in node.named_children:
            self.visit(child, depth=depth + 1)

    def _string(self, text: str) -> str:
        if text.startswith("@'"):
            return text[2:-2].strip("\n")
        if text.startswith('@"'):
            return self._token(text[2:-2].strip("\n"), quoted=True)
        if text.startswith("'"):
            return text[1:-1].replace("''", "'")
        return self._token(text[1:-1].replace('""', '`"'), quoted=True)

    def _token(self, text: str, *, quoted: bool = False) -> str:
        """One token with its quotes and backticks removed and its known variables put in."""
        out: list[str] = []
        quote = '"' if quoted else ""
        i = 0
        while i < len(text):
            sign = text[i]
            if sign == "`" and quote != "'" and i + 1 < len(text):
                i += 1
                out.append("" if text[i] == "\n" else _CONTROLS.get(text[i], text[i]))
            elif not quoted and sign in "'\"" and quote in ("", sign):
                quote = "" if quote else sign
            elif sign == "$" and quote != "'" and (found := _VARIABLE.match(text, i)):
                name = (found[1] or found[2] or "").lower()
                out.append(" ".join(self.variables.get(name, (HOLE,))))
                i = found.end() - 1
            else:
                out.append(sign)
            i += 1
        return "".join(out)
