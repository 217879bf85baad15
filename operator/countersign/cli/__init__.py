"""The command line: `countersign`, also as `kubectl countersign`. It wires ports to the core; it holds no rules."""
