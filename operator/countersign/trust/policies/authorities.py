"""Authorities, ready to be asked about many signatures: keys by their names, identities with their expressions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from countersign.api.image_rule import Authority, KeylessIdentity, Proof
from countersign.trust.evidence.facts import Identity, ProofKind, Vouch
from countersign.trust.evidence.fingerprints import pem_fingerprint
from countersign.trust.policies.patterns import Pattern
from countersign.trust.policies.policy import DEFAULT_ROOT

PROOF_KINDS: Final[Mapping[Proof, ProofKind]] = {"TransparencyLog": "log", "Timestamp": "timestamp", "SCT": "sct"}
"""What a policy calls a proof, and what facts call it."""

MAX_SEEN: Final = 256
"""Identities of which an authority remembers whether they fit: the same few sign all images of a rollout."""


class CompiledIdentity:
    """Whom a certificate must have been issued to."""

    __slots__ = ("_extension_patterns", "_extensions", "_issuer", "_issuer_pattern", "_subject", "_subject_pattern")

    def __init__(self, spec: KeylessIdentity) -> None:
        self._issuer: Final = spec.issuer
        self._subject: Final = spec.subject
        self._issuer_pattern: Final = Pattern(spec.issuer_reg_exp) if spec.issuer_reg_exp else None
        self._subject_pattern: Final = Pattern(spec.subject_reg_exp) if spec.subject_reg_exp else None
        self._extensions: Final = tuple(spec.extensions.items())
        self._extension_patterns: Final = tuple((name, Pattern(text)) for name, text in spec.extensions_reg_exp.items())

    def fits(self, identity: Identity) -> bool:
        """Whether every member that the policy gives fits. Without an issuer, or without a subject, nobody does."""
        if not (
            _fits(self._issuer, self._issuer_pattern, identity.issuer)
            and _fits(self._subject, self._subject_pattern, identity.subject)
        ):
            return False
        if not self._extensions and not self._extension_patterns:
            return True
        found = dict(identity.extensions)
        return all(found.get(name) == value for name, value in self._extensions) and all(
            name in found and pattern.matches(found[name]) for name, pattern in self._extension_patterns
        )

    def misfit(self, identity: Identity) -> str:
        """Which extension keeps one out whose issuer and subject fit, and how; empty where that is not what does."""
        if not (
            _fits(self._issuer, self._issuer_pattern, identity.issuer)
            and _fits(self._subject, self._subject_pattern, identity.subject)
        ):
            return ""
        found = dict(identity.extensions)
        exact = ((name, value, found.get(name) == value) for name, value in self._extensions)
        patterns = ((name, one.text, one.matches(found.get(name, ""))) for name, one in self._extension_patterns)
        for name, wanted, fits in (*exact, *patterns):
            if name not in found:
                return f"certificate has no {name}"
            if not fits:
                return f"{name} is {found[name][:80]}, not {wanted[:80]}"
        return ""

    @property
    def exact(self) -> tuple[str, str] | None:
        """Issuer and subject where both are named and nothing else can be meant; None: expressions say who."""
        return (self._issuer, self._subject) if self._issuer and self._subject else None

    @property
    def expressions(self) -> int:
        """How many it has."""
        return len(self._extension_patterns) + (self._issuer_pattern is not None) + (self._subject_pattern is not None)

    @property
    def extensions(self) -> tuple[str, ...]:
        """Names of the extensions that it asks about."""
        return tuple([name for name, _ in (*self._extensions, *self._extension_patterns)])

    def problems(self) -> Iterator[str]:
        """What is wrong with its expressions, each with the member that holds it."""
        named = (
            ("issuerRegExp", self._issuer_pattern),
            ("subjectRegExp", self._subject_pattern),
            *((f"extensionsRegExp {name}", pattern) for name, pattern in self._extension_patterns),
        )
        for member, pattern in named:
            if pattern is not None and pattern.problem:
                yield f"{member} {pattern.text[:80]!r} is no expression of RE2: {pattern.problem}"

    def __str__(self) -> str:
        """For people: whom it means, shortly."""
        subject = self._subject or (self._subject_pattern.text if self._subject_pattern else "nobody")
        issuer = self._issuer or (self._issuer_pattern.text if self._issuer_pattern else "nobody")
        more = len(self._extensions) + len(self._extension_patterns)
        return f"{subject} of {issuer}" + (f" with {more} extension{'s' if more > 1 else ''}" if more else "")


def _fits(exact: str, pattern: Pattern | None, value: str) -> bool:
    if not exact and pattern is None:
        return False
    return (not exact or value == exact) and (pattern is None or pattern.matches(value))


class CompiledAuthority:
    """Somebody whose signature counts."""

    __slots__ = ("_seen", "fingerprints", "identities", "keys", "name", "require", "require_reference", "root", "spec")

    def __init__(self, spec: Authority) -> None:
        self.spec: Final = spec
        self.name: Final = spec.name
        key, keyless = spec.key, spec.keyless
        pems = key.pem if key is not None else ()
        self.keys: Final = {fingerprint: pem for pem in pems if (fingerprint := pem_fingerprint(pem))}
        """PEM by fingerprint. What cannot be read vouches for nothing and is not asked for."""
        self.fingerprints: Final = frozenset(self.keys)
        self.require_reference: Final = key is not None and key.require_reference
        self.identities: Final = tuple(CompiledIdentity(one) for one in (keyless.identities if keyless else ()))
        reference = keyless.evidence_root_ref if keyless else key.evidence_root_ref if key else None
        self.root: Final = reference.name if reference else DEFAULT_ROOT if keyless else ""
        """Name of the evidence root that its signatures must go back to; empty: a key that stands for itself."""
        required = (*(key.require if key else ()), *(keyless.require if keyless else ()))
        self.require: Final = frozenset(PROOF_KINDS[proof] for proof in required)
        self._seen: dict[Identity, bool] = {}

    def fits(self, identity: Identity) -> bool:
        """Whether one of its identities means this one."""
        known = self._seen.get(identity)
        if known is None:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            known = self._seen[identity] = any(one.fits(identity) for one in self.identities)
        return known

    def problem(self) -> str:
        """What in it can never have an effect; empty: nothing."""
        if len(self.keys) < len(self.spec.key.pem if self.spec.key else ()):
            # Two blocks of one key are one key, and no problem.
            for pem in self.spec.key.pem if self.spec.key else ():
                if pem_fingerprint(pem) is None:
                    return "a key is not a PEM block of type PUBLIC KEY"
        return next((problem for identity in self.identities for problem in identity.problems()), "")


class AuthorityIndex:
    """Several authorities, by whom they name: hundreds of them are not asked one by one about hundreds of signatures.

    Whoever is left out is a stranger to the authority: neither one of its keys, nor an issuer and subject of its.
    """

    __slots__ = ("_all", "_by_expression", "_by_identity", "_by_key")

    def __init__(self, authorities: Iterable[CompiledAuthority]) -> None:
        self._all: Final = tuple(authorities)
        self._by_key: Final[dict[str, list[int]]] = {}
        self._by_identity: Final[dict[tuple[str, str], list[int]]] = {}
        by_expression: list[int] = []
        for place, authority in enumerate(self._all):
            for fingerprint in authority.fingerprints:
                self._by_key.setdefault(fingerprint, []).append(place)
            exact = {one.exact for one in authority.identities}
            if None in exact:
                by_expression.append(place)
                continue
            for identity in exact:
                if identity is not None:
                    self._by_identity.setdefault(identity, []).append(place)
        self._by_expression: Final = tuple(by_expression)

    def naming(self, vouch: Vouch) -> Iterator[CompiledAuthority]:
        """Those that may mean whoever vouches, in their order."""
        identity = vouch.identity
        if identity is None:
            places: Iterable[int] = self._by_key.get(vouch.key_fingerprint, ())
        else:
            named = self._by_identity.get((identity.issuer, identity.subject), ())
            places = sorted((*named, *self._by_expression)) if self._by_expression else named
        return (self._all[place] for place in places)
