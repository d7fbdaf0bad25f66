"""From a listing of files to what is desired, name by name. Pure.

Invariants: whatever is wrong with a file, what ran from it goes on as last recorded, and is said to; a
name has one definition, that of the running instance when two files claim it; a listing that is
unknown or unsettled asks for everything it asked for before, and for nothing to be pruned; what was rolled back
stays so for as long as its file has the content that was set aside.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType

from reconciler.loop.digests import REMEMBERED, Keyed
from reconciler.loop.port_owners import PortOwners
from reconciler.loop.revisions import Reverted
from reconciler.loop.selecting import mismatch
from reconciler.loop.texts import listed, place, rolled_back
from reconciler.loop.values import Desired, DesiredContainer, Origin, Record, Recorded, Refusal, Tree
from reconciler.spec.errors import SpecError
from reconciler.spec.loader import Document
from reconciler.spec.model import ContainerSpec
from reconciler.spec.normal import canonical, digest, with_contents
from reconciler.spec.references import Kind, references
from reconciler.spec.sources.listing import Commit, Content, Listing, ListingState
from reconciler.spec.support import unsupported
from reconciler.states import Reason, Status

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")

Contents = Mapping[tuple[str, Kind], Content]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A file that defines a top-level name, validly (document) or not (errors). reverted: the document is that of an
    earlier revision."""

    file: str
    sha256: str
    line: int
    document: Document | None = None
    errors: tuple[SpecError, ...] = ()
    reverted: Reverted | None = None


@dataclass(slots=True)
class _Draft:
    """What is being put together for one source."""

    source: str
    recorded: Recorded
    contents: Contents = field(default_factory=dict)
    containers: dict[str, DesiredContainer] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    elsewhere: dict[str, Refusal] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    commit: Commit | None = None
    rollbacks: Mapping[str, Reverted] = field(default_factory=dict)
    trees: dict[str, Tree] = field(default_factory=dict)
    rolled_back: dict[str, str] = field(default_factory=dict)
    ports: PortOwners = field(default_factory=PortOwners)

    def origin(self, file: str, line: int) -> Origin:
        return Origin(self.source, file, line, self.commit)

    def retain(self, record: Record) -> None:
        """Ask for what was last applied."""
        self.held.add(record.name)
        self.containers[record.name] = DesiredContainer(record.spec, record.digest, record.origin, record.contents)

    def retain_tree(self, name: str) -> None:
        for record in self.own_records():
            if _document_name(record.spec) == name:
                self.retain(record)

    def own_records(self) -> Iterable[Record]:
        for name in sorted(self.recorded.records):
            record = self.recorded.records[name]
            if record.origin.source == self.source and not record.deleting:
                yield record

    def refuse(self, name: str, status: Status, reason: Reason, message: str, origin: Origin) -> None:
        self.refusals[name] = Refusal(name, status, reason, message, origin)


def desire(
    listing: Listing,
    recorded: Recorded,
    identity: str,
    labels: Mapping[str, str] = MappingProxyType({}),
    rollbacks: Mapping[str, Reverted] = MappingProxyType({}),
) -> Desired:
    """What the source `identity` asks for, given what it asked for before. labels: of this node; rollbacks: by
    top-level name."""
    draft = _Draft(identity, recorded, listing.contents, labels=labels, commit=listing.commit, rollbacks=rollbacks)
    known = listing.state is ListingState.OK
    claims = _claims(listing)
    busy = frozenset(listing.busy)
    _keep_ports(claims, draft)
    for name in sorted(claims):
        _settle_claims(name, claims[name], draft, busy)
    errors = {entry.path: "\n".join(map(str, entry.parsed.errors)) for entry in listing.files if entry.parsed.errors}
    complete = known and listing.settled
    for record in draft.own_records():
        doubtful = not complete or record.origin.file in errors or record.origin.file in busy
        if doubtful and _document_name(record.spec) not in claims and record.name not in draft.containers:
            draft.retain(record)
    return Desired(
        source=identity,
        containers=draft.containers,
        refusals=draft.refusals,
        complete=complete,
        unknown_reason="" if known else (listing.reason or "the source could not be read"),
        held_names=frozenset(draft.held),
        ignored=listing.ignored,
        errors=errors,
        commit=listing.commit,
        elsewhere=draft.elsewhere,
        trees=draft.trees,
        rolled_back=draft.rolled_back,
    )


def _keep_ports(claims: Mapping[str, list[_Claim]], draft: _Draft) -> None:
    """Who was given a port keeps it for as long as it asks for it, or nobody knows what it asks for."""
    for record in draft.own_records():
        asked = claims.get(_document_name(record.spec), ())
        documents = [claim.document for claim in asked if claim.document is not None]
        specs = [spec for document in documents for spec in document.containers if spec.name == record.name]
        if asked and not documents:
            draft.ports.give(record.spec, record.origin)
        for spec in specs[:1]:
            draft.ports.give(record.spec, record.origin, again=spec)


def _document_name(spec: ContainerSpec) -> str:
    """The name that the document has in which the container was written."""
    return spec.name if spec.class_ == "debug" else spec.root


def _claims(listing: Listing) -> dict[str, list[_Claim]]:
    """Top-level name → who claims it, in the order of paths."""
    claims: dict[str, list[_Claim]] = defaultdict(list)
    for entry in sorted(listing.files, key=lambda entry: entry.path):
        file = entry.path
        for number, document in enumerate(entry.parsed.documents):
            claims[document.name].append(_Claim(file, f"{entry.sha256}#{number}", document.line, document))
        faults: dict[str, list[SpecError]] = defaultdict(list)
        for error in entry.parsed.errors:
            if error.name is not None and _NAME.fullmatch(error.name):
                faults[error.name].append(error)
        for name, errors in faults.items():
            claims[name].append(_Claim(file, entry.sha256, errors[0].line, errors=tuple(errors)))
    return claims


def _settle_claims(name: str, claims: list[_Claim], draft: _Draft, busy: frozenset[str]) -> None:
    record = draft.recorded.records.get(name)
    if record is not None and not record.deleting and record.origin.source != draft.source:
        message = (
            f"{claims[0].file} defines {name}, which belongs to another source, {record.origin.source} "
            f"({place(record.origin)}); take it out there first, or choose another name"
        )
        origin = draft.origin(claims[0].file, claims[0].line)
        draft.refuse(name, Status.CONFLICT, Reason.OTHER_SOURCE, message, origin)
        return
    own = record if record is not None and not record.deleting else None
    if own is not None and own.origin.file in busy:
        draft.retain_tree(name)
        return
    chosen = _chosen(claims, own)
    asked = _rolled_back(name, chosen, draft)
    if asked.document is not None:
        _accept(asked, asked.document, draft)
    else:
        draft.retain_tree(name)
    if chosen.document is None:
        origin = draft.origin(chosen.file, chosen.line)
        draft.refuse(name, Status.INVALID, Reason.INVALID_SPEC, _lines(chosen.errors), origin)
    if len(claims) > 1:
        _tell_of_rivals(name, chosen, claims, draft)


def _rolled_back(name: str, claim: _Claim, draft: _Draft) -> _Claim:
    """The claim, or an earlier revision in its place."""
    tree = None
    if claim.document is not None:
        specs = claim.document.containers
        found = _tree_digest(Keyed(claim.document, (claim.file, claim.sha256)))
        tree = draft.trees[name] = Tree(found, specs, draft.origin(claim.file, claim.line))
    back = draft.rollbacks.get(name)
    if back is None or back.over(tree):
        return claim
    draft.rolled_back[name] = rolled_back(back.revision.number, claim.file)
    document, key = back.document(claim.line), f"revision {back.revision.digest}"
    return replace(claim, sha256=key, document=document, reverted=back)


def _chosen(claims: list[_Claim], record: Record | None) -> _Claim:
    """The file of the running instance; without one the first that is valid."""
    ranked = sorted(claims, key=lambda claim: claim.document is None)
    for claim in ranked:
        if record is not None and claim.file == record.origin.file:
            return claim
    return ranked[0]


def _tell_of_rivals(name: str, chosen: _Claim, claims: list[_Claim], draft: _Draft) -> None:
    places = [f"{claim.file}:{claim.line}" for claim in claims]
    counts = f"{chosen.file}:{chosen.line}"
    message = f"{name} is defined in {listed(places)}; the one in {counts} counts; take out the others"
    earlier = draft.refusals.get(name)
    if earlier is None:
        origin = draft.origin(chosen.file, chosen.line)
        draft.refuse(name, Status.CONFLICT, Reason.DUPLICATE_NAME, message, origin)
    else:
        draft.refuse(name, earlier.status, earlier.reason, f"{earlier.message}; {message}", earlier.origin)


def _accept(claim: _Claim, document: Document, draft: _Draft) -> None:
    """Ask for the document's containers, but for those that cannot be run and what is below them."""
    for spec in document.containers:
        judged = _judge(Keyed((document, spec), (claim.file, claim.sha256, spec.name)))
        origin = draft.origin(claim.file, judged.line)
        if claim.reverted is not None:
            origin = replace(origin, commit=claim.reverted.revision.origin.commit)
        if why := _not_here(spec, draft):
            reason = Reason.NODE_SELECTOR
            draft.elsewhere[spec.name] = Refusal(spec.name, Status.IGNORED, reason, why, origin)
            continue
        above = _refused_above(spec, draft)
        if above is not None:
            message = f"its parent {spec.parent} is not run: {above.message}"
            draft.refuse(spec.name, Status.BLOCKED, Reason.PARENT_NOT_RUNNING, message, origin)
        elif judged.missing:
            message = "; ".join(f"{claim.file}:{line}:{column}: {text}" for line, column, text in judged.missing)
            draft.refuse(spec.name, Status.BLOCKED, Reason.NOT_SUPPORTED, message, origin)
        elif unread := tuple(_unread(claim, document, spec, draft.contents)):
            draft.refuse(spec.name, Status.BLOCKED, Reason.FILE_UNREADABLE, "; ".join(unread), origin)
        elif (taken := draft.ports.taken(spec)) is not None:
            number, whose = taken
            line, column = document.locate(f"ports[{number}].host", spec.name)
            message = f"{claim.file}:{line}:{column}: spec.ports[{number}].host: {whose}"
            draft.refuse(spec.name, Status.CONFLICT, Reason.PORT_TAKEN, message, origin)
        else:
            draft.ports.give(spec, origin)
            contents = _contents(spec, claim.file, draft.contents)
            if claim.reverted is not None:
                contents = {**_applied_contents(spec, draft), **contents}
            digest = with_contents(judged.digest, contents)
            draft.containers[spec.name] = DesiredContainer(spec, digest, origin, contents)
            continue
        own = draft.recorded.records.get(spec.name)
        if own is not None and not own.deleting:
            draft.retain(own)


def _not_here(spec: ContainerSpec, draft: _Draft) -> str:
    """Why it is not for this node; "" when it is."""
    above = draft.elsewhere.get(spec.parent or "")
    return above.message if above is not None else mismatch(spec, draft.labels)


def _unread(claim: _Claim, document: Document, spec: ContainerSpec, contents: Contents) -> Iterator[str]:
    """What is wrong with the files that the container refers to."""
    for reference in references(spec, posixpath.dirname(claim.file)):
        found = contents.get((reference.path, reference.kind))
        if found is not None and found.error:
            line, column = document.locate(reference.field, spec.name)
            yield f"{claim.file}:{line}:{column}: spec.{reference.field}: {reference.path}: {found.error}"


def _contents(spec: ContainerSpec, file: str, contents: Contents) -> dict[str, str]:
    return {
        reference.field: contents[reference.path, reference.kind].hash
        for reference in references(spec, posixpath.dirname(file))
        if (reference.path, reference.kind) in contents
    }


def _applied_contents(spec: ContainerSpec, draft: _Draft) -> Mapping[str, str]:
    """Of files that only an earlier revision refers to: nobody follows them."""
    record = draft.recorded.records.get(spec.name)
    return record.contents if record is not None and record.spec == spec else {}


def _refused_above(spec: ContainerSpec, draft: _Draft) -> Refusal | None:
    """Why its parent is not run as written. Of a debug container, whose file is another, it may be run as it was."""
    above = draft.refusals.get(spec.parent) if spec.parent else None
    if above is None or above.reason is Reason.DUPLICATE_NAME:
        return None
    return None if spec.class_ == "debug" and spec.parent in draft.containers else above


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a container of a document says by itself. missing: (line, column, why) of what cannot be given yet."""

    digest: str
    line: int
    missing: tuple[tuple[int, int, str], ...]


@lru_cache(REMEMBERED)
def _judge(keyed: Keyed[tuple[Document, ContainerSpec]]) -> _Judged:
    document, spec = keyed.value
    line = document.locate("name", spec.name)[0] if spec.parent else document.line
    missing = tuple((*document.locate(path, spec.name), why) for path, why in unsupported(spec))
    return _Judged(digest(spec), line, missing)


@lru_cache(REMEMBERED)
def _tree_digest(keyed: Keyed[Document]) -> str:
    return sha256(canonical({spec.name: digest(spec) for spec in keyed.value.containers})).hexdigest()


def _lines(errors: Iterable[SpecError]) -> str:
    return "; ".join(str(error) for error in errors)
