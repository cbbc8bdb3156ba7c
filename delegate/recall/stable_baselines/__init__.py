"""Recall Traces beside the algorithms of Stable-Baselines3: config, buffer, losses, callback."""
