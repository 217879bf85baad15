"""YAML files that people wrote, read strictly: every problem names its place."""
