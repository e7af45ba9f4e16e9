"""Routes by the protocol that their clients speak: a module's router is over the application's service."""
