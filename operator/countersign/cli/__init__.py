"""The command line: `countersign`, also as `kubectl countersign`. Wires ports to the core and prints; holds no rules."""
