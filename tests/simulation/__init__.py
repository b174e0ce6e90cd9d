"""The whole product on virtual time, from one seed: see docs/verification.md."""
