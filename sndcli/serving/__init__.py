"""A defended model behind the Open Inference Protocol: what ``snd serve`` runs."""
