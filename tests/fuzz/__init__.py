"""A long run of the property tests about parsers of what registries, mirrors and policies bring."""
