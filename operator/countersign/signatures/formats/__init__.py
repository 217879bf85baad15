"""How signatures and statements are written: bundles, cosign's classic form, envelopes."""
