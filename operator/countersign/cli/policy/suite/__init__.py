"""`countersign policy test FOLDER`: cases as a test suite for policies."""
