"""Networks: backbones, heads, graph networks and CLIP encoders. No method, label regime or training loop is here."""
