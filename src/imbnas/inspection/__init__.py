"""Looking at images before anything trains: what they are, what is odd about them, how long the chain will take."""
