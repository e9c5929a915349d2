"""Parts that several methods share: losses, blending, transfer, contrastive loss, decoupling, prototypes,
co-occurrence. No method is here, and no training loop.
"""
