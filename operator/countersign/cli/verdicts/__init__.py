"""What the gate would make of a pod, judged here, and how it is told."""
