"""What train.py and predict.py share: options, the console, interrupts."""
