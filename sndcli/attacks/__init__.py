"""Query attacks, one file an algorithm. They see an oracle and a generator, nothing else."""
