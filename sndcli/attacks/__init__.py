"""Query attacks, one file an algorithm. They see an oracle and random streams, nothing else."""
