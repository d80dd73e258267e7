# Commits of partitions that were given back, or by members that are gone, are refused.
> topic rings 2
> join a rings
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
  tell a, epoch 3: reads [rings/0 since 3, rings/1 since 3]
> commit a rings/0 3
  done
> join b rings
  joined, epoch 4
  assigned, 1 to move
  tell a, epoch 5: reads [rings/0 since 3], gives back [rings/1]
> commit a rings/1 7
  done
> give-back a
  acknowledged, 1 free
  tell a, epoch 5: reads [rings/0 since 3]
  tell b, epoch 6: reads [rings/1 since 6]
> commit a rings/1 8
  refused ["rings/1: the partition is not the member's, or was not at the epoch it named"]
> commit b rings/1 9
  done
> commit b rings/1 8
  refused ["rings/1: offset 9 is committed: only a reset goes back"]
> expire a
  expired
  a is none any more: expired(session)
  assigned, 0 to move
  tell b, epoch 7: reads [rings/0 since 7, rings/1 since 6]
> commit a rings/0 4
  refused: the group has no such member: it left, expired, or another took its instance over
> offsets
  committed [rings/0 3, rings/1 9]
