# A static member restarts: nothing moves, and what its old life still says is refused.
> topic rings 4
> join-static a1 one rings
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
  tell a1, epoch 3: reads [rings/0 since 3, rings/1 since 3, rings/2 since 3, rings/3 since 3]
> join-static b1 two rings
  joined, epoch 4
  assigned, 2 to move
  tell a1, epoch 5: reads [rings/0 since 3, rings/1 since 3], gives back [rings/2, rings/3]
> give-back a1
  acknowledged, 2 free
  tell a1, epoch 5: reads [rings/0 since 3, rings/1 since 3]
  tell b1, epoch 6: reads [rings/2 since 6, rings/3 since 6]
> leave-for-restart b1
  left
  tell b1, epoch 6: reads [rings/2 since 6, rings/3 since 6]
> join-static b2 two rings
  joined, epoch 7
  b1 is none any more: takenover
  tell b2, epoch 7: reads [rings/2 since 7, rings/3 since 7]
> commit b1 rings/2 5
  refused: the group has no such member: it left, expired, or another took its instance over
> commit b2 rings/2 5
  done
