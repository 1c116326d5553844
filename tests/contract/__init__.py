"""What holds on every backend. A package, so that each is brought up once for all files of it."""
