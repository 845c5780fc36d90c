"""Code shared by the programs: options, the session of a training, the console, interrupts."""
