"""Routes by the protocol that their clients speak: each module has a router over the application's service."""
