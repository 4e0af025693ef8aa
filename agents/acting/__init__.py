"""Acting: the policy, its network, its memory and its exploration. Nothing here learns."""
