"""One file a subcommand: options in, calls out, exit code."""
