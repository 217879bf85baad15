"""What a command says and how it ends: exit codes, tables, JSON."""
