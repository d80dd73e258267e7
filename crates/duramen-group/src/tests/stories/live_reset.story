# A reset while a member reads: it is told to go on elsewhere, and commits from before are void.
> topic rings 2
> join a rings
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
  tell a, epoch 3: reads [rings/0 since 3, rings/1 since 3]
> commit a rings/0 90
  done
> reset rings/0 10
  reset, fence 4
  tell a, epoch 4: reads [rings/0 since 4, rings/1 since 3]
> commit a epoch 3 rings/0 95
  refused ["rings/0: the partition is not the member's, or was not at the epoch it named"]
> commit a epoch 3 rings/1 5
  done
> commit a rings/0 12
  done
> reset fence 2 rings/0 0
  refused: the group has changed, its fence is 4: read its offsets again
> offsets
  committed [rings/0 12, rings/1 5]
