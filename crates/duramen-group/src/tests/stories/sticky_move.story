# A third member over six partitions: each of two gives one back, the other four are not touched.
> topic rings 6
> join a rings
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
  tell a, epoch 3: reads [rings/0 since 3, rings/1 since 3, rings/2 since 3, rings/3 since 3, rings/4 since 3, rings/5 since 3]
> join b rings
  joined, epoch 4
  assigned, 3 to move
  tell a, epoch 5: reads [rings/0 since 3, rings/1 since 3, rings/2 since 3], gives back [rings/3, rings/4, rings/5]
> give-back a
  acknowledged, 3 free
  tell a, epoch 5: reads [rings/0 since 3, rings/1 since 3, rings/2 since 3]
  tell b, epoch 6: reads [rings/3 since 6, rings/4 since 6, rings/5 since 6]
> join c rings
  joined, epoch 7
  assigned, 2 to move
  tell a, epoch 8: reads [rings/0 since 3, rings/1 since 3], gives back [rings/2]
  tell b, epoch 8: reads [rings/3 since 6, rings/4 since 6], gives back [rings/5]
> commit a rings/0 10
  done
> give-back a
  acknowledged, 1 free
  tell a, epoch 8: reads [rings/0 since 3, rings/1 since 3]
  tell c, epoch 9: reads [rings/2 since 9]
> give-back b
  acknowledged, 1 free
  tell b, epoch 8: reads [rings/3 since 6, rings/4 since 6]
  tell c, epoch 10: reads [rings/2 since 9, rings/5 since 10]
> expire c
  expired
  c is none any more: expired(session)
  assigned, 0 to move
  tell a, epoch 11: reads [rings/0 since 3, rings/1 since 3, rings/2 since 11]
  tell b, epoch 11: reads [rings/3 since 6, rings/4 since 6, rings/5 since 11]
