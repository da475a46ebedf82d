"""Where units of work are done: in this process, in others on this machine, or on a cluster; the same bits for each."""
