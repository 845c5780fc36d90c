"""What the programs share: options, the session of a training, the console, interrupts."""
