"""Output for people and scripts. It knows results, but neither sockets nor click."""
