# A member that does not give back holds up what was revoked, and nothing else, until it is removed.
> topic rings 4
> join a rings
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
  tell a, epoch 3: reads [rings/0 since 3, rings/1 since 3, rings/2 since 3, rings/3 since 3]
> join b rings
  joined, epoch 4
  assigned, 2 to move
  tell a, epoch 5: reads [rings/0 since 3, rings/1 since 3], gives back [rings/2, rings/3]
> commit b rings/2 1
  refused ["rings/2: the partition is not the member's, or was not at the epoch it named"]
> expire a
  expired
  a is none any more: expired(session)
  tell b, epoch 6: reads [rings/2 since 6, rings/3 since 6]
  assigned, 0 to move
  tell b, epoch 7: reads [rings/0 since 7, rings/1 since 7, rings/2 since 6, rings/3 since 6]
> commit b rings/2 1
  done
