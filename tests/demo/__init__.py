"""`make demo`: the main job of Countersign, on a real API server, told step by step."""
