"""The rules of a ProtectedAudience (`spec.allow`): what they may say, and what they come to."""
