"""What a pod may be made to do: its command, its mounts, its account, and the tokens that it carries."""
