"""Looks at what reaches the key that the wall keeps: its file, its entry in a keyring, the harness's own code. Pure.

``harness.providers.keeping`` says where it lies: in the system's keyring under ``SERVICE``, or in ``keys/KIND.json`` of
the harness's home. A path is what a program opens; in a text that is printed, sent or searched for it is a mention.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache

from harness.shellguard import rules
from harness.shellguard.programs import INTERPRETERS
from harness.shellguard.pyflow import Flow, called
from harness.shellguard.reading import HOLE, PRINTERS, ProgramCall, names, program
from harness.shellguard.seen import Place, Seen, Violation, said

SERVICE = "gold-standard-harness"
FOLDER, FILE = "keys", "vast.json"

_HOME = re.compile(rf"harness_home|(?:share|local|support|data_home\W{{0,2}})/+{SERVICE}", re.IGNORECASE)
"""The harness's home in a line; a clone of the repository bears the same name, and is none."""
_OWN_HOME = re.compile(r"harness_home[\"'}]?\s*=", re.IGNORECASE)
"""A line that gives the harness another home speaks of that one."""
_BESIDE = re.compile(r"\.local/share\b|Application Support|AppData", re.IGNORECASE)
_IN_TEXT = re.compile(rf"(?:harness_home\W{{0,3}}|{SERVICE}\W?)/+{FOLDER}\b|\b{FOLDER}/+\.?vast\.json", re.IGNORECASE)
_INTO_FOLDER = re.compile(
    rf"\b(?:cd|chdir|pushd|set-location|sl)\b[^;&|\n]*\b{FOLDER}/?[\"']?\s*(?:[;&|\n]|$)", re.IGNORECASE
)
_ENTRY = re.compile(rf"{SERVICE}|python keyring library|\bvast of [/~\w]", re.IGNORECASE)
"""What finds the entry in a keyring: its service, the attribute that all entries of this kind have, its user name."""

_LISTS = names(
    """
    ls ll dir tree du df stat test [ [[ file wc realpath readlink basename dirname cd chdir pushd popd mkdir touch chmod
    chown which where find fd locate sha256sum sha512sum md5sum get-childitem gci test-path resolve-path split-path
    join-path set-location get-item get-filehash harness export declare local set unset
    """
)
"""Programs that tell of a file without its bytes."""
_HANDED_ON = re.compile(
    r"\b(?i:xargs|parallel|foreach)|\bwhile\s[^;\n]*\bread\b|\s-(?:exec|ok|delete)|\|\s*%"
    r"|\b(?:cat|less|head|tail|strings|xxd|base64|jq|cp|mv|rm|tar|zip|curl|scp|rsync|python3?)\b[^;|&\n]*(?:\$\(|`|<\()"
)
"""Signs of a line that goes on with what is listed."""
_NAMED_OTHERWISE = re.compile(r"-i?(?:name|path|wholename|regex)")
_TELLS = PRINTERS | names(
    "logger mail mailx sendmail notify-send wall say rem : :: title msg display-message gh glab claude man help"
)
_GIT_READS = names("add diff hash-object stash")
_SEARCHES = names("grep egrep fgrep rg ag ack findstr select-string sls jq gojq yq sed awk gawk mawk")
"""Programs whose first operand is a pattern, or a program of their own."""
_PATTERN_FOLLOWS = re.compile(r"-\w*e|--regexp|-pattern", re.IGNORECASE)
_PATTERN_GIVEN = re.compile(r"-\w*f|-e.+|--(?:regexp|file)=.*|--file|/[cg]:.*", re.IGNORECASE)
_COPIES = names(
    """
    cp mv ln install tar zip 7z 7za rsync scp sftp rclone restic borg copy copy-item cpi move-item xcopy robocopy
    compress-archive grep egrep fgrep rg ag ack
    """
)
"""Programs that, given a folder, take or search what lies below it."""
_WHOLE = _COPIES | names("rm rmdir rd del remove-item ri shred")
_READERS = _COPIES | names(
    """
    cat tac bat less more head tail nl cut sort paste rm shred dd gzip xz zstd base64 base32 xxd od hexdump strings jq
    yq openssl gpg curl wget nc vim vi nano emacs code open xclip awk gawk sed python python3 get-content gc type
    select-string findstr certutil format-hex convertfrom-json remove-item
    """
)

_KEYRINGS = {
    "keyring": "get|del|set",
    "secret-tool": "lookup|search|clear|store",
    "security": r"(?:find|delete|add)-\w+-password|dump-keychain|export",
    "kwallet-query": ".*",
    "cmdkey": r"[-/](?:delete|add|generic|pass|user)\b.*",
    "gdbus": ".*",
    "busctl": ".*",
    "dbus-send": ".*",
    **dict.fromkeys(("get-storedcredential", "remove-storedcredential", "get-secret", "remove-secret"), ".*"),
}
"""Programs that give or take an entry of a keyring, and the verbs by which they do."""
_WHOLE_KEYRING = re.compile(r"dump-keychain|export")

_CODE_READS = re.compile(
    r"open|read|slurp|file|load|copy|require|\bcat\b|\bfs\b|qx|system|exec|cred\w*read|vault|retrieve|get.?password",
    re.IGNORECASE,
)
_CODE_PATH = re.compile(rf"\b{FOLDER}[\"'\s/,+)(]*vast\.json", re.IGNORECASE)
_ASKS = names("get_password get_credential delete_password set_password")
_INNER = re.compile(r"\bharness\.(?:providers\.(?:keeping|wall)|cli\.wall)\b")
_INNER_NAMES = names("KeyStore open_wall read_record")
_DEEPEST = 20
_OPENERS = names(
    """
    open Path PurePath PosixPath join joinpath copy copy2 copyfile copytree move rename read_text read_bytes glob rglob
    load fdopen unlink remove rmtree make_archive add write_file upload
    """
)
_PATHS = names("Path PurePath PosixPath PurePosixPath WindowsPath PureWindowsPath")
_WALKS = names("glob iglob rglob iterdir walk scandir listdir")
"""Calls that list what lies below a folder."""
_TAKES = names("open read_text read_bytes read load copy copy2 copyfile fdopen add upload unlink ZipFile run system")
"""Names in a program that goes on with what it has listed."""


def look(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """A call on this machine that reads, copies or removes the kept key, or asks a keyring for it."""
    if not call.words or place.remote:
        return
    name, line = program(call.words[0]), _slashed(place.line)
    held = _asks_keyring(name, call, line) or any(_is_kept(one, line) for file in call.files for one in _paths(file))
    if held or _opens(name, call, place, line):
        yield Violation(rules.KEPT_KEY, said(call))


def _asks_keyring(name: str, call: ProgramCall, line: str) -> bool:
    verbs = _KEYRINGS.get(name)
    if verbs is None or not any(re.fullmatch(verbs, word, re.IGNORECASE) for word in call.words[1:]):
        return False
    told = " ".join((*call.words[1:], call.stdin or ""))
    whole = name == "security" and any(map(_WHOLE_KEYRING.fullmatch, call.words[1:]))
    return whole or bool(_ENTRY.search(told)) or (HOLE in told and _in_line(_ENTRY, line))


def _opens(name: str, call: ProgramCall, place: Place, line: str) -> bool:
    if name in _TELLS or (place.prose and name not in _READERS) or (name == "git" and not _GIT_READS & set(call.words)):
        return False
    if name in INTERPRETERS:
        text = _slashed(" ".join((*call.words[1:], call.stdin or "")))
        reached = _CODE_PATH.search(text) or (
            _ENTRY.search(text) and re.search("cred|vault|password", text, re.IGNORECASE)
        )
        if reached and _CODE_READS.search(text):
            return True
    words = _without_pattern(call.words[1:]) if name in _SEARCHES else call.words[1:]
    paths = [path for word in words for path in _paths(word)]
    kept = any(_is_kept(path, line) for path in paths)
    home = any(_is_home(path, line) for path in paths)
    if name in _LISTS:
        fits = any(
            file == FILE or (home and _may_be(file, FILE)) for file in (path.rpartition("/")[2] for path in paths)
        )
        below = home and not any(map(_NAMED_OTHERWISE.fullmatch, words))
        return _in_line(_HANDED_ON, line) and (kept or fits or below)
    fed = name in _READERS and any(HOLE in path for path in paths) and _in_line(_IN_TEXT, line)
    return kept or bool(fed) or (home and name in _WHOLE)


def _without_pattern(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words of a search less its pattern: the first operand, or the value of an option."""
    at = next((i for i, word in enumerate(words) if _PATTERN_FOLLOWS.fullmatch(word)), None)
    if at is not None:
        return (*words[:at], *words[at + 2 :])
    if any(map(_PATTERN_GIVEN.fullmatch, words)):
        return words
    at = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    return (*words[:at], *words[at + 1 :])


@lru_cache(maxsize=64)
def _in_line(pattern: re.Pattern[str], line: str) -> bool:
    """True where a pattern stands in a line, looked for once: a deeply nested line has thousands of calls."""
    return pattern.search(line) is not None


def _slashed(text: str) -> str:
    return text.replace("\\", "/")


def _paths(word: str) -> Iterator[str]:
    """Paths that a word may name: itself, and what stands behind ``NAME=``, ``@`` or ``HOST:``; a text is none."""
    told = _slashed(word).replace("Application Support", "Support")
    if not any(map(str.isspace, told)):
        yield from re.split(r"[=@:,]", told)


def _is_kept(path: str, line: str) -> bool:
    """True for a path of the key's file, of a pattern that it fits, or of the folder that it alone lies in."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not parts:
        return False
    *above, folder, file = ["", "", *parts]
    into = _in_line(_INTO_FOLDER, line) if not folder else _may_be(folder, FOLDER)
    named = file.removeprefix(".").startswith(FILE) or (folder == FOLDER and "vast" in file)
    if into and named and _may_be(file, FILE):
        return True
    home = _ends_at_home(above, line)
    return (home and (folder == FOLDER or (into and _may_be(file, FILE)))) or (
        _ends_at_home([*above, folder], line) and _may_be(file, FOLDER)
    )


def _ends_at_home(above: list[str], line: str) -> bool:
    """True for what is the harness's home, or may be in a line that names it: a variable, or the current folder."""
    last = next((part for part in reversed(above) if part), "")
    named = not last or (HOLE in last and not _in_line(_OWN_HOME, line))
    return last == SERVICE or (named and _in_line(_HOME, line))


def _is_home(path: str, line: str) -> bool:
    bare = path.rstrip(f"/.{HOLE}") or path.rstrip("/.")
    if bare == HOLE:
        return "HARNESS_HOME" in line and not _in_line(_OWN_HOME, line)
    named = _HOME.search(bare) or ("/" not in bare and _in_line(_BESIDE, line))
    return bare.rpartition("/")[2] == SERVICE and bool(named)


def _may_be(part: str, name: str) -> bool:
    """True when a part of a path is a name, its temporary file, or a pattern that fits it."""
    pattern = part.removeprefix("." if name == FILE else "").replace(HOLE, "*")
    return part != HOLE and (fnmatchcase(name, pattern) or (name == FILE and pattern.startswith(FILE + ".")))


def python(code: str, place: Place) -> Iterator[Seen]:
    """Python that asks a keyring for the entry, opens the file, or takes the harness's own code for it."""
    if place.remote:
        return
    try:
        tree = ast.parse(code)
        flow = Flow(tree)
        held = _reached(tree, flow, place)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        held = bool(_ENTRY.search(code) and re.search("|".join(_ASKS), code)) or bool(_IN_TEXT.search(_slashed(code)))
    if held:
        yield Violation(rules.KEPT_KEY, code)


def _reached(tree: ast.Module, flow: Flow, place: Place) -> bool:
    found: set[str] = set()
    modules: list[str] = []
    opened: list[str] = []
    listed: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=imported):
                modules += [one.name for one in imported]
            case ast.ImportFrom(module=module, names=imported):
                modules += [f"{module}.{one.name}" for one in imported]
                found |= {one.name for one in imported}
            case ast.Attribute(attr=name) | ast.Name(id=name):
                found.add(name)
            case ast.Call() if called(node) in _OPENERS:
                given = [part for one in node.args for part in _parts(one, flow)]
                opened += [*given, "/".join(given)]
                listed += _listed(node, flow, place)
            case ast.Call() if called(node) in _WALKS:
                listed += _listed(node, flow, place)
            case ast.BinOp(op=ast.Div()):
                opened.append("/".join(_parts(node, flow)))
            case _:
                pass
    handed = (*flow.handed_on(), *flow.arguments())
    told = " ".join(("".join(handed), *handed))
    line = _slashed(place.line)
    asks = bool(_ASKS & (found | set(handed)))
    inner = any(module.startswith("harness.") for module in modules) and bool(_INNER_NAMES & found)
    return (
        (asks and (bool(_ENTRY.search(f"{place.line} {told}")) or "harness.providers" in " ".join(modules)))
        or inner
        or bool(_INNER.search(" ".join((*modules, told))))
        or bool(_IN_TEXT.search(_slashed(told)))
        or any(_is_kept(path, line) for path in map(_slashed, opened))
        or (bool(_TAKES & found) and any(_is_kept(path, line) for path in listed))
    )


def _listed(node: ast.Call, flow: Flow, place: Place) -> Iterator[str]:
    """Patterns of what a call lists, where it lists what lies below the harness's home."""
    name = called(node)
    if name not in _WALKS:
        return
    method = isinstance(node.func, ast.Attribute) and name in {"glob", "rglob", "iterdir", "walk"}
    tops = [node.func.value] if method and isinstance(node.func, ast.Attribute) else []
    folders = ["/".join(_parts(one, flow)) for one in (*tops, *node.args[:1])]
    if not any(_is_home(_slashed(folder), _slashed(place.line)) for folder in folders):
        return
    told = flow.value(node.args[0]) if name in {"glob", "rglob"} and tops and node.args else "*"
    pattern = told.replace(HOLE, "*") if isinstance(told, str) else "*"
    yield f"{SERVICE}/{pattern}"
    if name != "glob":
        yield f"{SERVICE}/*/{pattern}"


def _parts(node: ast.expr, flow: Flow, depth: int = 0) -> Iterator[str]:
    """Texts of an expression: of a path that is put together with ``/``, its parts."""
    flow.step()
    match node:
        case ast.BinOp(left=left, op=ast.Div(), right=right) if depth < _DEEPEST:
            yield from _parts(left, flow, depth + 1)
            yield from _parts(right, flow, depth + 1)
        case ast.Call(func=ast.Attribute(value=inner, attr="joinpath" | "expanduser" | "resolve"), args=args) if (
            depth < _DEEPEST
        ):
            for one in (inner, *args):
                yield from _parts(one, flow, depth + 1)
        case ast.Call(args=args) if called(node) in _PATHS and depth < _DEEPEST:
            for one in args:
                yield from _parts(one, flow, depth + 1)
        case ast.Call(func=ast.Attribute(value=inner)) if called(node) in _WALKS and depth < _DEEPEST:
            yield from _parts(inner, flow, depth + 1)  # what is found below it
        case ast.Name(id=name) if name in flow.given and depth < _DEEPEST:
            for one in flow.given[name]:
                yield from _parts(one, flow, depth + 1)
        case _:
            value = flow.value(node)
            yield from (value,) if isinstance(value, str) else value
