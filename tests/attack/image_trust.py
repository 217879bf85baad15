"""A namespace whose policy asks for all that image rules can ask for, and an attacker who may push to its repositories.

Each folder of the namespace's repositories has a rule of its own. Nothing here is a fake but the registry where a test
says so: admission is asked for at the API server, images and signatures lie in a real registry, cosign and a private
Sigstore make them.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

from tests.lab.cosign import Form, KeyPair
from tests.lab.http import Answer, HttpClient
from tests.lab.images import CONFIG, INDEX, MANIFEST, ImageSpec, PushedImage, Repository
from tests.lab.lab import Lab
from tests.lab.registries import Registry
from tests.lab.sigstore.issuer import Identity
from tests.stack import objects
from tests.stack.installation import Installation

NAME = "image-trust"
SCAN = "https://example.com/scan/v1"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
METADATA = "169.254.169.254"
_NUMBERS = itertools.count(1)

Change = Callable[[dict[str, Any], dict[str, Any]], object]
"""Makes a bundle wrong: it is given the bundle, and another image's."""


class Target:
    """What is attacked."""

    def __init__(self, countersign: Installation) -> None:
        self.countersign = countersign
        self.lab: Lab = countersign.lab
        self.registry: Registry = self.lab.registry("referrers")
        self.release: KeyPair = self.lab.cosign.generate_key(f"{NAME}-release")
        self.scanner: KeyPair = self.lab.cosign.generate_key(f"{NAME}-scanner")
        self.who: Identity = self.lab.sigstore.issuers.github("acme/ledger")
        self.lab.create_namespace(NAME, {"governed-by": NAME})
        self.lab.grant_role(NAME, f"eve-{NAME}")
        root = self.lab.sigstore.trusted_root.read_text()
        countersign.declare(objects.evidence_root(NAME, trustedRoot=root), self.policy())

    @property
    def eve(self) -> HttpClient:
        """Somebody with the built-in `edit` role here."""
        return self.lab.api(f"eve-{NAME}")

    def policy(self, **members: Any) -> objects.Object:
        images = [self.rule(kind, **spec) for kind, spec in self._rules().items()]
        images.append({**objects.image_rule([f"{METADATA}/**"], [self.release.public_pem]), "name": "metadata"})
        return objects.cluster_policy(NAME, namespaces={"governed-by": NAME}, images=images, **members)

    def rule(self, kind: str, **members: Any) -> objects.Object:
        return {"name": kind, "globs": [f"{self.registry.host}/{NAME}/{kind}"], **members}

    def _rules(self) -> dict[str, objects.Object]:
        release = {"name": "release", "key": {"pem": [self.release.public_pem]}}
        scanner = {"name": "scanner", "key": {"pem": [self.scanner.public_pem]}}
        scan = {"name": "scan", "predicateType": SCAN, "authorities": ["scanner"]}
        clean = {"expression": "predicate.critical == 0", "message": "scan again"}
        return {
            "keyed": {"authorities": [release]},
            "platforms": {"authorities": [release], "signatureOn": "Platforms"},
            "either": {"authorities": [release], "signatureOn": "Either"},
            "scanned": {
                "authorities": [release],
                "attestors": [scanner],
                "attestations": [{**scan, "validations": [clean]}],
            },
            "keyless": {"authorities": [self.keyless()]},
            "logged": {"authorities": [self.keyless(require=["TransparencyLog", "Timestamp"])]},
        }

    def keyless(self, **members: Any) -> objects.Object:
        identity = {"issuer": self.who.issuer, "subject": self.who.subject}
        return {"name": "ci", "keyless": {"identities": [identity], "evidenceRootRef": {"name": NAME}, **members}}

    # What the attacker does

    def repository(self, kind: str) -> Repository:
        return self.registry.repository(f"{NAME}/{kind}")

    def push(self, kind: str, mark: str = "") -> PushedImage:
        tag = f"v{next(_NUMBERS)}"
        return self.repository(kind).push(tag, ImageSpec.distinct(mark or f"{kind}-{tag}", entrypoint=["/app"]))

    def attach(self, image: PushedImage, bundle: bytes, *, media_type: str = BUNDLE) -> None:
        """Hang a bundle on an image, as cosign does."""
        repository = self.repository(image.repository.rpartition("/")[2])
        config = {"mediaType": CONFIG, **repository.push_blob(b"{}")}
        layer = {"mediaType": media_type, **repository.push_blob(bundle)}
        subject = image.descriptor()
        content = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE, "config": config}
        repository.push_manifest(f"a{next(_NUMBERS)}", {**content, "layers": [layer], "subject": subject}, MANIFEST)

    def index(self, kind: str, content: bytes) -> PushedImage:
        """An index of the attacker's making, byte for byte."""
        return self.repository(kind).push_manifest(f"i{next(_NUMBERS)}", content, INDEX)

    def bundle_of(self, image: PushedImage) -> dict[str, Any]:
        """The one bundle that hangs on an image."""
        repository = self.repository(image.repository.rpartition("/")[2])
        (referrer,) = repository.referrers(image.digest)
        manifest = json.loads(repository.get_manifest(referrer["digest"]))
        return dict(json.loads(repository.get_blob(manifest["layers"][0]["digest"])))

    def sign_keyless(self, image: PushedImage, who: Identity | None = None, **how: Any) -> None:
        sigstore = how.pop("sigstore", self.lab.sigstore)
        self.lab.cosign.sign_keyless(self.registry, image, who or self.who, sigstore, **how)

    def forged(self, kind: str, change: Change) -> PushedImage:
        """An image whose one bundle was good, with parts of another image's good bundle in it."""
        mark = f"forged-{next(_NUMBERS)}"
        elsewhere, another = self.push("elsewhere", mark), self.push("elsewhere")
        self.sign_keyless(elsewhere)
        self.sign_keyless(another)
        bundle = copy.deepcopy(self.bundle_of(elsewhere))
        change(bundle, self.bundle_of(another))
        here = self.push(kind, mark)
        assert here.digest == elsewhere.digest
        self.attach(here, json.dumps(bundle).encode())
        return here

    def sign(self, image: PushedImage | str, key: KeyPair | None = None, form: Form = Form.BUNDLE) -> None:
        self.lab.cosign.sign(self.registry, image, key or self.release, form=form)

    def attest(self, image: PushedImage, key: KeyPair, kind: str = SCAN, **predicate: Any) -> None:
        self.lab.cosign.attest(self.registry, image, key, predicate=predicate or {"critical": 0}, predicate_type=kind)

    # What comes of it

    def create(self, image: str, namespace: str = NAME, **spec: Any) -> Answer:
        """A pod of the attacker's."""
        made = objects.pod(f"pod-{next(_NUMBERS)}", namespace, objects.pod_spec(objects.container(image), **spec))
        return self.eve.post(f"/api/v1/namespaces/{namespace}/pods", made, query={"dryRun": "All"})

    def admitted(self, image: PushedImage | str) -> str:
        """The image as it was admitted."""
        answer = self.create(image if isinstance(image, str) else image.by_tag)
        assert answer.status == 201, answer.message
        return str(answer.body["spec"]["containers"][0]["image"])

    def refused(self, image: PushedImage | str, code: str = "ImageUnsigned") -> str:
        """Why it was not."""
        answer = self.create(image if isinstance(image, str) else image.by_tag)
        assert answer.status in (403, 503), f"{answer.status} {answer.message}"
        assert f"{code}:" in answer.message, answer.message
        return answer.message
