"""What every runtime has to do, whatever its language: docs/runtimes.md says it in words."""
