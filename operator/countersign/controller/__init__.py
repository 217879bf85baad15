"""The controller: follows admitted pods, keeps grants, policies' status, certificates and webhook configurations."""
