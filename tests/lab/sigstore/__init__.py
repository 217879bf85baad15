"""A private Sigstore, offline: what signs keyless, and what keyless signatures are verified against.

    sigstore = lab.sigstore                              # started at first use, ends with the lab
    who = sigstore.issuers.github("acme/payments")       # or .gitlab(...), .email("dev@example.com")
    lab.cosign.sign_keyless(registry, image, who, sigstore)
    sigstore.trusted_root                                # trusted_root.json, by cosign

Real, from pinned Go modules: Fulcio, timestamp-authority (RFC 3161), rekor-tiles (Rekor v2). Ours, because no module
gives them: the OpenID Connect issuers, certificate transparency, Rekor v1. Nothing of it talks to another machine.

    services        all of it together
    issuer          ID tokens, and the issuers that Fulcio asks for their keys
    fulcio          its certificate authority and configuration
    ctlog           signed certificate timestamps
    rekorv1         the log that the classic form refers to
    mirror          a TUF repository that hands out the trusted root
    merkle, web, keys   what these are made of
"""
