"""With how many bits a network computes: fake quantisers in training, integers in deployment."""
