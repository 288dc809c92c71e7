"""Records with long names: ``PID.PATIENT_NAME.FAMILY_NAME`` in place of ``PID`` ``5`` ``1``.

The shape of a message follows its structure, as a walk over a parsed HL7 tree gives it:

    {"meta": {…}, "MSH": {"n": 1, …}, "ORU_R01_PATIENT_RESULT": [{"ORU_R01_PATIENT": {"PID": {"n": 2, …}}}]}

- A group, segment or field is a list where HL7 lets it repeat or it does repeat, else the object itself. A
  segment that the structure does not know at that place is a list.
- A segment is an object of its fields, with its number in the message as ``n``.
- A field or component is text where its type is primitive, else an object of its components. An empty
  repetition is null.
- What the dictionary does not name is called by number, after what it is part of: field 40 of PID is
  ``PID_40``, component 11 of a CX is ``CX_11``, component 2 of field ZPI_3, whose type nobody knows, is
  ``ZPI_3_2``. Where a primitive type is expected, further components are called so too: ``ST_1``, ``ST_2``.
- OBX-5 has the type that OBX-2 tells.

Every value of a record stands in it exactly once.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from loaders.hl7.dictionary import (
    Part,
    components_of,
    dictionary_version,
    fields_of,
    find_structure,
    shape_of,
)

Json = dict[str, Any]


class Member(NamedTuple):
    """A segment or, with members of its own, a group at its place in a structure."""

    name: str
    is_required: bool
    is_repeated: bool
    is_choice: bool
    members: "tuple[Member, ...]"


class _Group:
    """A group that is open: its members and how far the message has come in them."""

    def __init__(self, member: Member, content: Json) -> None:
        self.member = member
        self.content = content
        self.at = 0

    def knows(self, name: str) -> bool:
        return any(m.name == name for m in self.member.members)

    def repeats(self, name: str) -> bool:
        """Tell whether the structure lets a member repeat, or has it at several places."""
        places = [m for m in self.member.members if m.name == name]
        return len(places) != 1 or places[0].is_repeated


def with_long_names(record: Mapping[str, Any]) -> Json:
    """Give a decoded message (``meta``, ``segments``) with long names, in the groups of its structure."""
    meta = record["meta"]
    version = meta.get("dictionary") or dictionary_version(meta["version"])
    message: Json = {}
    place = _Placer(_structure(version, meta), message)
    for segment in record["segments"]:
        place(segment["id"], _name_segment(segment, version))
    return {"meta": meta, **message}


def _structure(version: str, meta: Mapping[str, Any]) -> Member:
    """Give the structure that the message names or, where there is none of that name, its event's."""
    name = find_structure(version, *_split(meta["structure"])) or find_structure(
        version, meta["message_type"], meta["trigger_event"]
    )
    return _parse(name or "", shape_of(version, name) or "" if name else "")


def _split(structure: str | None) -> tuple[str, str | None]:
    message_type, _, event = (structure or "").partition("_")
    return message_type, event or None


class _Placer:
    """Puts segments into the groups of a structure, one after the other.

    The place of a segment is the first of these, the innermost open group first where there are several:

    1. in the innermost open group, the place it has reached or a later one;
    2. a new repetition of an open group that begins with this very segment (an ORC after an order's results
       begins the next order, though it might begin the first order's prior results);
    3. the place reached or a later one of an open group, perhaps within groups that begin there (required
       members may be missing); or a new repetition of it with nothing required before the segment;
    4. an open group that has it at an earlier place: it is out of order, or exceeds its maximum;
    5. the innermost open group that is no choice, and does not know it: a Z segment, say.

    4 and 5 leave the groups open and the places reached as they are.
    """

    def __init__(self, structure: Member, content: Json) -> None:
        self._open = [_Group(structure, content)]

    def __call__(self, name: str, segment: Json) -> None:
        found = self._here(name) or self._next(name) or self._ahead(name)
        if found:
            depth, path = found
            del self._open[depth + 1 :]
            self._enter(path)
            _put(self._open[-1], name, segment)
            return
        inward = self._open[::-1]
        known = [group for group in inward if group.knows(name)]
        _put((known or [group for group in inward if not group.member.is_choice])[0], name, segment)

    def _here(self, name: str) -> tuple[int, list[int]] | None:
        members = self._open[-1].member.members
        at = next((at for at in range(self._open[-1].at, len(members)) if members[at].name == name), None)
        return None if at is None else (len(self._open) - 1, [at])

    def _next(self, name: str) -> tuple[int, list[int]] | None:
        for depth in range(len(self._open) - 1, 0, -1):
            member, path = self._open[depth].member, [self._open[depth - 1].at]
            if not member.is_repeated:
                continue
            while member.members:
                member = member.members[0]
                path.append(0)
            if member.name == name:
                return depth - 1, path
        return None

    def _ahead(self, name: str) -> tuple[int, list[int]] | None:
        for depth in range(len(self._open) - 1, -1, -1):
            path = self._way(self._open[depth], name, repeats=depth < len(self._open) - 1)
            if path:
                return depth, path
        return None

    @staticmethod
    def _way(group: _Group, name: str, *, repeats: bool) -> list[int] | None:
        """Give the way to a segment: places from an open group on; the last is the segment's own.

        ``repeats``: a group within is open at the place reached, and may begin anew.
        """
        members = group.member.members
        start = group.at
        if repeats:
            within = members[start]
            if within.is_repeated and (way := _first(within, name, may_skip=False)):
                return [start, *way]
            start = len(members) if group.member.is_choice else start + 1
        for at in range(start, len(members)):
            if way := _first(members[at], name, may_skip=True):
                return [at, *way] if members[at].members else [at]
        return None

    def _enter(self, path: list[int]) -> None:
        """Open the groups on the way, and remember the places reached."""
        for i, at in enumerate(path):
            group = self._open[-1]
            group.at = at
            member = group.member.members[at]
            if i < len(path) - 1:
                content: Json = {}
                _put(group, member.name, content)
                self._open.append(_Group(member, content))
            elif group.member.is_choice:
                group.at = len(group.member.members)
            elif not member.is_repeated:
                group.at += 1


def _first(member: Member, name: str, *, may_skip: bool) -> list[int] | None:
    """Give the way to a segment within a member ([0] if it is that segment); None where there is none.

    ``may_skip``: members that are required may be missing before it.
    """
    if not member.members:
        return [0] if member.name == name else None
    for at, within in enumerate(member.members):
        way = _first(within, name, may_skip=may_skip)
        if way:
            return [at, *way] if within.members else [at]
        if within.is_required and not may_skip and not member.is_choice:
            return None
    return None


def _put(group: _Group, name: str, content: Json) -> None:
    here = group.content
    if name not in here:
        here[name] = [content] if group.repeats(name) else content
    elif isinstance(here[name], list):
        here[name].append(content)
    else:
        here[name] = [here[name], content]


_TOKEN = re.compile(r"(\w+)([?*+]?)(\|?)(\(?)|\)")


@lru_cache(maxsize=256)
def _parse(structure: str, shape: str) -> Member:
    """Read a shape such as ``MSH SFT* _PATIENT?(PID PD1?)``."""
    levels: list[list[Member]] = [[]]
    heads: list[tuple[str, str, str]] = []
    for token in _TOKEN.finditer(shape):
        if token[0] == ")":
            name, quantifier, choice = heads.pop()
            members = tuple(levels.pop())
            levels[-1].append(_member(name, quantifier, choice, members))
            continue
        name, quantifier, choice, opens = token.groups()
        if opens:
            heads.append((structure + name if name.startswith("_") else name, quantifier, choice))
            levels.append([])
        else:
            levels[-1].append(_member(name, quantifier, choice, ()))
    return Member(structure, True, False, False, tuple(levels[0]) or (Member("MSH", True, False, False, ()),))


def _member(name: str, quantifier: str, choice: str, members: tuple[Member, ...]) -> Member:
    return Member(name, quantifier in ("", "+"), quantifier in ("*", "+"), bool(choice), members)


def _name_segment(segment: Mapping[str, Any], version: str) -> Json:
    parts = fields_of(version, segment["id"])
    fields = segment["fields"]
    named: Json = {"n": segment["n"]}
    for number, repetitions in fields.items():
        part = _part(parts, int(number))
        owner = f"{segment['id']}_{number}"
        datatype = part.datatype if part else ""
        if owner == "OBX_5" and "2" in fields:
            told = fields["2"][0].get("1", "")
            datatype = told if re.fullmatch("[A-Z][A-Z0-9]{1,2}", told) else datatype
        values = [_name_components(repetition, version, datatype, owner) for repetition in repetitions]
        is_list = len(values) != 1 or (part is not None and part.is_repeated)
        named[part.name if part else owner] = values if is_list else values[0]
    return named


def _name_components(values: Mapping[str, Any], version: str, datatype: str, owner: str) -> Any:
    """Name the values of a repetition, by component ("4") and subcomponent ("4.2").

    Args:
        datatype: the repetition's type; "" where nobody knows it.
        owner: what its components are called after then.
    """
    parts = components_of(version, datatype)
    if not values:
        return None
    if not parts and values.keys() == {"1"}:
        return values["1"]
    components: dict[int, dict[str, Any]] = {}
    for key, value in values.items():
        component, _, subcomponent = key.partition(".")
        components.setdefault(int(component), {})[subcomponent or "1"] = value
    named: Json = {}
    for number, subcomponents in components.items():
        part = _part(parts, number)
        default = f"{datatype or owner}_{number}"
        named[part.name if part else default] = _name_subcomponents(
            subcomponents, version, part.datatype if part else "", default
        )
    return named


def _name_subcomponents(values: Mapping[str, Any], version: str, datatype: str, owner: str) -> Any:
    parts = components_of(version, datatype)
    if not parts and values.keys() == {"1"}:
        return values["1"]
    named: Json = {}
    for number, value in values.items():
        part = _part(parts, int(number))
        named[part.name if part else f"{datatype or owner}_{number}"] = value
    return named


def _part(parts: tuple[Part | None, ...], number: int) -> Part | None:
    return parts[number - 1] if number <= len(parts) else None
