"""The upstream dialects: one file each, in the registry ``PROVIDERS``."""
