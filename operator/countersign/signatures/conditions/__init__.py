"""Conditions on what an attestation says, evaluated apart from everything else."""
