"""What every command needs: its command line, its weights file, and the hints that it prints."""
